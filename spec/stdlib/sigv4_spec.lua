---The vectors are AWS's own: the "aws-sig-v4-test-suite", and the examples of the Amazon S3 API
---Reference ("Authenticating Requests").
local crypto = require "rt.crypto"
local http = require "kiln.http"
local rt_http = require "rt.http"
local sigv4 = require "kiln.sigv4"
local web = require "spec.support.web"

local suite = {
  region = "us-east-1", service = "service", access_key = "AKIDEXAMPLE",
  secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", now = 1440938160,
}
local s3 = {
  region = "us-east-1", service = "s3", access_key = "AKIAIOSFODNN7EXAMPLE",
  secret_key = crypto.secret "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", now = 1369353600,
}
local unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

local function signature(request, opts)
  request.url = "https://" .. request.url
  return sigv4.sign(request, opts or suite).Authorization:match("Signature=(%x+)$")
end

describe("kiln.sigv4", function()
  local host = "example.amazonaws.com"
  for name, case in pairs {
    ["get-vanilla"] = { host .. "/",
      "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
    ["get-vanilla-query-order-key-case"] = { host .. "/?Param2=value2&Param1=value1",
      "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500" },
    ["get-vanilla-empty-query-key"] = { host .. "/?Param1=value1",
      "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb" },
    ["get-vanilla-query-unreserved"] = { host .. "/?" .. unreserved .. "=" .. unreserved,
      "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197" },
    ["get-vanilla-utf8-query"] = { host .. "/?%E1%88%B4=bar",
      "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04" },
    ["get-unreserved"] = { host .. "/" .. unreserved,
      "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f" },
  } do
    it("signs as the suite's " .. name, function()
      assert.equal(case[2], signature { url = case[1] })
    end)
  end

  it("signs as the suite's requests with headers and bodies", function()
    assert.equal("acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736", signature {
      url = host .. "/", headers = { ["My-Header1"] = " value1", ["My-Header2"] = ' "a   b   c"' },
    }) -- get-header-value-trim
    assert.equal("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
      signature { url = host .. "/", method = "POST" }) -- post-vanilla
    assert.equal("ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a", signature {
      url = host .. "/", method = "POST", body = "Param1=value1",
      headers = { ["Content-Type"] = "application/x-www-form-urlencoded" },
    }) -- post-x-www-form-urlencoded
  end)

  it("signs as the S3 reference's examples", function()
    local bucket = "examplebucket.s3.amazonaws.com"
    assert.equal("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
      signature({ url = bucket .. "/test.txt", headers = { Range = "bytes=0-9" } }, s3))
    assert.equal("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", signature({
      url = bucket .. "/test$file.text", method = "PUT", body = "Welcome to Amazon S3.",
      headers = { Date = "Fri, 24 May 2013 00:00:00 GMT",
        ["x-amz-storage-class"] = "REDUCED_REDUNDANCY" },
    }, s3))
    assert.equal("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
      signature({ url = bucket .. "/?lifecycle" }, s3))
    assert.equal("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
      signature({ url = bucket .. "/?max-keys=2&prefix=J" }, s3))
  end)

  it("makes the S3 reference's presigned URL", function()
    local opts = { expires = 86400 }
    for name, value in pairs(s3) do opts[name] = value end
    assert.equal("https://examplebucket.s3.amazonaws.com/test.txt"
      .. "?X-Amz-Algorithm=AWS4-HMAC-SHA256"
      .. "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
      .. "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
      .. "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
      sigv4.presign("https://examplebucket.s3.amazonaws.com/test.txt", opts))
  end)

  it("signs every attempt of a request, and no redirect to another host", function()
    local other <close> = web.start(function() return { body = "there" } end)
    local site <close> = web.start(function(_, count)
      if count == 1 then return { status = 503 } end
      return { status = 302, headers = { Location = other.url } }
    end)
    local signed = 0
    local answer = http.get(site.url, {
      backoff = 0.01, redirects = 1,
      sign = function(request)
        signed = signed + 1
        return sigv4.sign(request, s3)
      end,
    })
    assert.same({ "there", 2 }, { answer.body, signed })
    assert.matches("^AWS4%-HMAC%-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/",
      site.seen[2].headers.authorization)
    assert.is_nil(other.seen[1].headers.authorization)
    rt_http.forget()
  end)

  it("says which option is missing", function()
    local ok, err = pcall(sigv4.signer, { region = "r" })
    assert.same({ false, "usage" }, { ok, err.kind })
    assert.matches("'service'", err.message, 1, true)
  end)
end)
