---What is sent again, and where to: the policies of kiln.http.
local crypto = require "rt.crypto"
local http = require "kiln.http"
local policy = require "kiln.http.policy"
local timer = require "rt.timer"
local web = require "spec.support.web"

local function raised(...)
  local ok, err = pcall(...)
  assert.is_false(ok)
  return err
end

local function redirect(status, location)
  return { status = status, headers = { Location = location } }
end

describe("kiln.http, when an attempt fails,", function()
  it("reads Retry-After as seconds and as a date", function()
    local function after(text, now) return policy.retry_after({ ["retry-after"] = text }, now) end
    assert.equal(120, after("120"))
    assert.equal(30, after("Sun, 06 Nov 1994 08:50:07 GMT", 784111777)) -- RFC 9110, 5.6.7
    assert.equal(0, after("Sun, 06 Nov 1994 08:49:37 GMT", 784111999))
    assert.is_nil(after("soon"))
    assert.is_nil(after(nil))
  end)

  it("waits until the date that the server names", function()
    local site <close> = web.start(function(_, count)
      if count > 1 then return {} end
      return { status = 429,
        headers = { ["Retry-After"] = os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + 2) } }
    end)
    local before = timer.now()
    assert.equal(2, http.post(site.url, { backoff = 0.01 }).attempts)
    assert.is_true(timer.now() - before >= 0.9)
  end)

  it("raises with the server's wish, so that an outer retry can heed it", function()
    local site <close> = web.start(function()
      return { status = 503, headers = { ["Retry-After"] = "7" } }
    end)
    local err = raised(http.post, site.url)
    assert.same({ "status", 503, 7, 1 }, { err.kind, err.status, err.retry_after, err.attempts })
  end)

  it("takes the caller's word for what is idempotent", function()
    local site <close> = web.start(function(_, count) return count % 2 == 0 and {} end)
    assert.equal(2, http.post(site.url, { idempotent = true, backoff = 0.01 }).attempts)
    local err = raised(http.get, site.url, { idempotent = false, backoff = 0.01 })
    assert.same({ "unreachable", 1 }, { err.kind, err.attempts })
  end)

  it("stops when the time for all attempts is over", function()
    local site <close> = web.start(function() return { status = 503 } end)
    local before = timer.now()
    local err = raised(http.get, site.url, { attempts = 1000, backoff = 0.1, within = 0.5 })
    assert.equal(503, err.status)
    assert.is_true(err.attempts >= 2 and err.attempts < 10)
    assert.is_true(timer.now() - before < 5)
  end)
end)

describe("kiln.http, when it is sent elsewhere,", function()
  it("follows no redirect unless told so, and as many as told", function()
    local site <close> = web.start(function(request)
      local at = tonumber(request.path:sub(2)) or 0
      return at < 3 and redirect(302, "/" .. at + 1) or { body = "end" }
    end)
    assert.equal(302, http.get(site.url).status)
    local answer = http.get(site.url, { redirects = 3 })
    assert.same({ "end", site.url .. "3" }, { answer.body, answer.url })
    assert.equal("limit", raised(http.get, site.url, { redirects = 2 }).kind)
  end)

  it("takes the method and the body along as the status says", function()
    local status
    local site <close> = web.start(function(request)
      return request.path == "/" and redirect(status, "/there") or { body = request.method }
    end)
    local function ask(code, method, body)
      status = code
      local answer = http.request { url = site.url, method = method, body = body, redirects = 1 }
      return { answer.status, answer.body, site.seen[#site.seen].body }
    end
    assert.same({ 200, "GET", "" }, ask(303, "POST", "x"))
    assert.same({ 200, "POST", "x" }, ask(307, "POST", "x"))
    assert.same({ 200, "PUT", "x" }, ask(308, "PUT", "x"))
    assert.same({ 302, "", "x" }, ask(302, "POST", "x")) -- a browser would make it a GET
    assert.same({ 200, "HEAD" }, { http.request {
      url = site.url, method = "HEAD", redirects = 1 }.status, site.seen[#site.seen].method })
  end)

  it("gives another host no credentials and no body", function()
    local other <close> = web.start(function() return { body = "there" } end)
    local site <close> = web.start(function(request)
      if request.path == "/back" then return { body = "home" } end
      return redirect(307, request.path == "/near" and "/back" or other.url)
    end)
    local headers = {
      Authorization = "Bearer t", Cookie = "a=b", ["X-Api-Key"] = "k", Accept = "text/plain",
      ["X-Token"] = crypto.secret "hidden",
    }
    assert.equal("there", http.get(site.url, { headers = headers, redirects = 1 }).body)
    local seen = other.seen[1].headers
    assert.equal("text/plain", seen.accept)
    for _, name in ipairs { "authorization", "cookie", "x-api-key", "x-token" } do
      assert.is_nil(seen[name])
    end
    assert.equal("home", http.get(site.url .. "near", { headers = headers, redirects = 1 }).body)
    assert.equal("hidden", site.seen[#site.seen].headers["x-token"])
    local err = raised(http.post, site.url, { body = "x", redirects = 1 })
    assert.equal("denied", err.kind)
    assert.equal(1, #other.seen)
  end)

  it("leaves neither https, nor a unix socket, nor the web", function()
    local function following(request, location)
      return policy.redirect(request, { status = 302, headers = { location = location } })
    end
    assert.equal("denied",
      raised(following, { url = "https://a.example/" }, "http://a.example/").kind)
    assert.equal("denied",
      raised(following, { url = "http://a.example/" }, "file:///etc/passwd").kind)
    assert.equal("denied", raised(following, { url = "http://a.example/", unix_socket = "/s" },
      "http://b.example/").kind)
    local request, foreign = following({ url = "http://a.example/x?y", cert = "c", key = "k" },
      "//A.example:80/z")
    assert.same({ "http://A.example:80/z", false, "c" }, { request.url, foreign, request.cert })
    request, foreign = following({ url = "https://a.example/", cert = "c", key = "k" },
      "https://a.example:444/")
    assert.same({ true }, { foreign, request.cert, request.key })
  end)
end)
