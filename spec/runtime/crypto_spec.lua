local crypto = require "rt.crypto"
local task = require "rt.task"
local timer = require "rt.timer"

local function output(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read("a")
  local ok = pipe:close()
  return text, ok
end

local function temporary(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

describe("rt.crypto", function()
  it("gives the SHA-256 of the standard's examples", function()
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      crypto.sha256(""))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      crypto.sha256("abc"))
  end)

  it("gives the MD5 of the standard's examples", function()
    assert.equal("d41d8cd98f00b204e9800998ecf8427e", crypto.md5(""))
    assert.equal("900150983cd24fb0d6963f7d28e17f72", crypto.md5("abc"))
  end)

  it("gives a file's SHA-256 as sha256sum does, and an error that names a missing file", function()
    local path = temporary(("kiln\0"):rep(100000))
    assert.equal(output("sha256sum " .. path):match("^%x+"), crypto.sha256_file(path))
    os.remove(path)
    local value, err = crypto.sha256_file(path)
    assert.is_nil(value)
    assert.equal("not_found", err.kind)
    assert.matches(path, err.message, 1, true)
  end)

  it("reads a file while other tasks go on, and stops when cancelled", function()
    local endless = task.spawn(function() crypto.sha256_file("/dev/zero") end)
    timer.sleep(0.05)
    endless:cancel()
    local ok, err = endless:join()
    assert.is_false(ok)
    assert.equal("cancelled", err.kind)
    timer.sleep(0.05) -- the thread notices
    assert.is_nil((crypto.sha256_file("/")))
  end)

  it("gives the HMAC-SHA1 of RFC 2202's cases", function()
    assert.equal("b617318655057264e28bc0b6fb378c8ef146be00",
      crypto.hmac_sha1(("\x0b"):rep(20), "Hi There"))
    assert.equal("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
      crypto.hmac_sha1("Jefe", "what do ya want for nothing?"))
    assert.equal(20, #crypto.hmac_sha1("k", "v", { raw = true }))
  end)

  it("gives the HMAC of RFC 4231's cases 1 and 2", function()
    assert.equal("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
      crypto.hmac_sha256(("\x0b"):rep(20), "Hi There"))
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      crypto.hmac_sha256("Jefe", "what do ya want for nothing?"))
    local raw = crypto.hmac_sha256("k", "v", { raw = true })
    assert.equal(crypto.hmac_sha256("k", "v"), crypto.hex(raw))
    assert.error_matches(function() crypto.hmac_sha256("k", "v", { rawe = true }) end, "'rawe'")
  end)

  it("gives the HMAC of RFC 4231's cases with long and binary keys", function()
    local counting = {}
    for i = 1, 25 do counting[i] = string.char(i) end
    local long = ("\xaa"):rep(131)
    for _, case in ipairs {
      { ("\xaa"):rep(20), ("\xdd"):rep(50),
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
      { table.concat(counting), ("\xcd"):rep(50),
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b" },
      { long, "Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
      { crypto.secret(long), "This is a test using a larger than block-size key and a larger than "
        .. "block-size data. The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
    } do
      assert.equal(case[3], crypto.hmac_sha256(case[1], case[2]))
    end
  end)

  it("encodes and decodes base64 of every length", function()
    for length = 0, 20 do
      local bytes = length == 0 and "" or crypto.random(length)
      assert.equal(bytes, crypto.unbase64(crypto.base64(bytes)))
    end
    assert.equal("aGVsbG8=", crypto.base64("hello"))
    assert.equal("invalid", select(2, crypto.unbase64("a$==")).kind)
    assert.equal("invalid", select(2, crypto.unbase64("abc")).kind)
  end)

  it("makes key pairs that OpenSSH reads", function()
    local pair = crypto.ed25519_keypair("kiln@spec")
    assert.equal("<secret>", tostring(pair.private))
    local path = temporary(crypto.reveal(pair.private))
    os.execute("chmod 600 " .. path)
    assert.equal(pair.public .. "\n", (output("ssh-keygen -y -f " .. path)))
    local shown = output("ssh-keygen -l -f " .. path)
    assert.matches(crypto.fingerprint(pair.public), shown, 1, true)
    assert.matches("kiln@spec", shown, 1, true)
    os.remove(path)
  end)

  it("never makes the same key twice", function()
    assert.not_equal(crypto.ed25519_keypair().public, crypto.ed25519_keypair().public)
  end)

  it("refuses what is no public key line", function()
    assert.equal("invalid", select(2, crypto.fingerprint("nonsense")).kind)
    assert.equal("invalid", select(2, crypto.fingerprint("ssh-ed25519 !!!!")).kind)
  end)

  it("keeps a secret's bytes from sight", function()
    local secret = crypto.secret("hunter2")
    assert.equal("<secret>", tostring(secret))
    assert.has_error(function() return secret .. "x" end)
    assert.has_error(function() return secret.bytes end)
    assert.has_error(function() return #secret end)
    assert.equal("hunter2", crypto.reveal(secret))
    assert.is_true(crypto.is_secret(secret))
    assert.is_false(crypto.is_secret("hunter2"))
    assert.equal(crypto.sha256("hunter2"), crypto.sha256(secret))
  end)
end)
