local http = require "kiln.http"
local timer = require "rt.timer"
local web = require "spec.support.web"

local function raised(...)
  local ok, err = pcall(...)
  assert.is_false(ok)
  return err
end

describe("kiln.http", function()
  it("sends JSON and a query, and reads JSON", function()
    local site <close> = web.start(function(request)
      return { body = ('{"got":%s,"a":"%s"}'):format(request.body, request.query["a b"]) }
    end)
    local answer = http.post(site.url, { json = { x = 1 }, query = { ["a b"] = "ä&", c = 3 } })
    assert.same({ got = { x = 1 }, a = "ä&" }, answer:json())
    local request = site.seen[1]
    assert.equal("application/json", request.headers["content-type"])
    assert.equal("3", request.query.c)
    assert.equal(1, answer.attempts)
  end)

  it("keeps the caller's content type", function()
    local site <close> = web.start(function() return {} end)
    http.put(site.url, { json = {}, headers = { ["content-type"] = "application/x+json" } })
    assert.equal("application/x+json", site.seen[1].headers["content-type"])
  end)

  it("raises for a bad status, with the answer, and not when told so", function()
    local site <close> = web.start(function(request)
      return { status = tonumber(request.path:sub(2)), body = '{"id":"gone"}' }
    end)
    for status, kind in pairs { [401] = "auth", [403] = "denied", [404] = "not_found",
      [422] = "status", [500] = "status" } do
      local err = raised(http.get, site.url .. status .. "?token=abc")
      assert.same({ kind, status, '{"id":"gone"}' }, { err.kind, err.status, err.body })
      assert.matches(("GET %s%d: answered %d: {"):format(site.url, status, status), err.message, 1,
        true)
    end
    assert.equal(500, http.get(site.url .. 500, { check = false }).status)
    assert.equal(6, #site.seen) -- none was repeated
  end)

  it("repeats idempotent requests whose connection broke or whose gateway failed", function()
    local site <close> = web.start(function(_, count)
      if count == 1 then return false end
      if count == 2 then return { status = 503 } end
      return { body = "third" }
    end)
    local answer = http.put(site.url, { body = "x", backoff = 0.01 })
    assert.same({ "third", 3 }, { answer.body, answer.attempts })
  end)

  it("never repeats a POST that may have been received", function()
    local site <close> = web.start(function(_, count) return count == 2 and { status = 503 } end)
    local err = raised(http.post, site.url, { body = "x", backoff = 0.01 })
    assert.same({ "unreachable", "maybe", 1 }, { err.kind, err.effect, err.attempts })
    assert.equal(503, raised(http.post, site.url, { backoff = 0.01 }).status)
    assert.equal(2, #site.seen)
  end)

  it("repeats a POST that was not sent, or refused for its rate", function()
    local err = raised(http.post, "http://127.0.0.1:1/", { attempts = 2, backoff = 0.01 })
    assert.same({ "unreachable", "none", 2 }, { err.kind, err.effect, err.attempts })
    local site <close> = web.start(function(_, count)
      return count == 1 and { status = 429, headers = { ["Retry-After"] = "0" } } or {}
    end)
    assert.equal(2, http.post(site.url, { backoff = 0.01 }).attempts)
  end)

  it("does not wait longer than told for a rate limit", function()
    local site <close> = web.start(function()
      return { status = 429, headers = { ["Retry-After"] = "3600" } }
    end)
    local before = timer.now()
    assert.equal("limit", raised(http.get, site.url).kind)
    assert.is_true(timer.now() - before < 30)
  end)

  it("stops after its attempts", function()
    local site <close> = web.start(function() return { status = 502, body = "no" } end)
    local err = raised(http.get, site.url, { attempts = 4, backoff = 0.001 })
    assert.equal("status", err.kind)
    assert.equal(4, #site.seen)
  end)

  it("does not repeat what cannot get better", function()
    local site <close> = web.start(function() return {} end)
    local err = raised(http.get, (site.url:gsub("http", "https")))
    assert.same({ "tls", 1 }, { err.kind, err.attempts })
    err = raised(http.get, "ftp://h/")
    assert.same({ "unsupported", 1 }, { err.kind, err.attempts })
  end)

  it("says that an answer is no JSON", function()
    local site <close> = web.start(function() return { body = "<html>\n\n502</html>" } end)
    local err = raised(function() return http.get(site.url):json() end)
    assert.equal("protocol", err.kind)
    assert.matches("<html> 502</html>", err.message, 1, true)
  end)

  it("cuts an answer for messages between characters", function()
    assert.equal("ab", http.excerpt("a\27b\n", 10):gsub(" ", ""))
    assert.equal(("x"):rep(199) .. "…", http.excerpt(("x"):rep(199) .. "äää"))
    assert.equal("??", http.excerpt("\255\254"))
  end)

  it("raises for both a body and JSON, and for unknown options", function()
    assert.has_error(function() http.post("http://h/", { json = {}, body = "" }) end)
    assert.has_error(function() http.get("http://h/", { tiemout = 1 }) end)
  end)
end)
