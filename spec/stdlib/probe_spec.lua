local http = require "rt.http"
local httpd = require "rt.httpd"
local json = require "rt.json"
local probe = require "kiln.probe"
local scope = require "kiln.scope"
local timer = require "rt.timer"
local tcp_server = require "spec.support.tcp_server"
local web = require "spec.support.web"

local function raised(...)
  local ok, err = pcall(...)
  assert.is_false(ok)
  return err
end

describe("kiln.probe", function()
  it("wants several good answers in a row", function()
    local site <close> = web.start(function(_, count)
      return { status = (count == 1 or count == 3) and 500 or 200, body = "fine" }
    end)
    local seen = probe.http { url = site.url, interval = 0.001 }
    assert.equal(6, seen.attempts)
    assert.same({ status = 200, body = "fine" }, seen.last)
    assert.is_true(seen.seconds > 0 and seen.seconds < 5)
  end)

  it("opens a connection for each attempt and asks for the path", function()
    local site <close> = web.start(function() return {} end)
    probe.http { host = "127.0.0.1", port = site.port, path = "/health/check", interval = 0 }
    assert.equal("/health/check", site.seen[1].path)
    assert.equal(3, #site.seen)
  end)

  it("raises with the last answer, how often it came and how long it tried", function()
    local body = '{"error":"DB_HOST is not set"}'
    local site <close> = web.start(function(_, count)
      return { status = count == 1 and 404 or 500, body = body }
    end)
    local err = raised(probe.http, { url = site.url .. "?t=s3cret", within = 0.2, interval = 0.05 })
    assert.equal("probe", err.kind)
    assert.same({ status = 500, body = body }, err.last)
    assert.equal(#site.seen, err.attempts)
    assert.matches(("^%s: 500 ×%d in 0.%%d+ s, last answer: 500 {\"error\""):format(
      site.url:gsub("%p", "%%%0"), err.attempts - 1), err.message)
    assert.not_matches("s3cret", err.message)
    assert.is_true(err.seconds < 10)
  end)

  it("gives an error that JSON can carry, whatever was answered", function()
    local site <close> = web.start(function() return { status = 500, body = "\0\255x\n" } end)
    local err = raised(probe.http, { url = site.url, within = 0.01 })
    assert.is_string(json.encode { last = err.last, message = err.message })
  end)

  it("says why there was no answer", function()
    local err = raised(probe.http, { host = "127.0.0.1", port = 1, within = 0.01 })
    assert.matches("^http://127.0.0.1:1/: no answer ×1 in ", err.message)
    assert.matches("Connection refused", err.last.error)
    assert.is_nil(err.last.status)
    http.forget()
  end)

  it("goes on until a service comes up", function()
    local port
    do
      local server <close> = assert(httpd.listen())
      port = server:port()
    end
    local site
    local results = scope.all {
      function()
        return probe.http { host = "127.0.0.1", port = port, interval = 0.01, within = 5 }
      end,
      function()
        timer.sleep(0.1)
        site = assert(httpd.listen { port = port })
        for _ = 1, 3 do site:accept():respond() end
      end,
    }
    site:close()
    http.forget()
    assert.is_true(results[1].attempts > 3)
  end)

  it("wants the version in the answer or in a header", function()
    local site <close> = web.start(function(request)
      local header = request.path == "/header"
      return {
        body = header and "fine" or '{"version":"v2"}',
        headers = { ["X-Version"] = header and "v2" or nil },
      }
    end)
    probe.http { url = site.url, version = "v2", interval = 0 }
    probe.http { url = site.url .. "header", version = "v2", interval = 0 }
    local err = raised(probe.http, { url = site.url, version = "v3", within = 0.5, interval = 1 })
    assert.matches("version v2, not v3", err.message)
  end)

  it("does not take an answer without a version for one with it", function()
    local site <close> = web.start(function() return { body = "[]" } end)
    local err = raised(probe.http, { url = site.url, version = "v3", within = 0.5, interval = 1 })
    assert.matches("version not named, not v3", err.message)
  end)

  it("asks the caller what is good", function()
    local site <close> = web.start(function() return { status = 401 } end)
    local function expect(response) return response.status == 401, "no 401" end
    assert.equal(3, probe.http { url = site.url, expect = expect, interval = 0 }.attempts)
    local function never() return false, "the moon is wrong" end
    assert.matches("the moon is wrong", raised(probe.http,
      { url = site.url, expect = never, within = 0.5, interval = 1 }).message)
  end)

  it("keeps to its time with a server that stalls", function()
    local server <close> = tcp_server.start("stall")
    local before = timer.now()
    local err = raised(probe.http, { url = server.url, within = 0.2 })
    assert.equal("probe", err.kind)
    assert.is_true(timer.now() - before < 10)
  end)

  it("tells a good answer that did not last", function()
    local site <close> = web.start(function() return {} end)
    local err = raised(probe.http, { url = site.url, within = 0.01, interval = 0.02 })
    assert.matches("good 1 in a row, not 3", err.message)
  end)

  it("stops when its task is cancelled", function()
    local site <close> = web.start(function() return { status = 500 } end)
    local err = raised(scope.within, 0.1, function() probe.http { url = site.url } end)
    assert.equal("timeout", err.kind)
  end)

  it("connects by TCP", function()
    local server = assert(httpd.listen())
    local port = server:port()
    assert.equal(3, probe.tcp { host = "127.0.0.1", port = port, interval = 0 }.attempts)
    server:close()
    local err = raised(probe.tcp, { host = "127.0.0.1", port = port, within = 0.01 })
    assert.equal("probe", err.kind)
    assert.matches("last answer: 127.0.0.1:%d+: ", err.message)
  end)

  it("raises for unknown options", function()
    assert.has_error(function() probe.http { url = "http://h/", intervall = 1 } end)
    assert.has_error(function() probe.http { path = "/" } end)
    assert.has_error(function() probe.tcp { host = "h", port = 1, path = "/" } end)
  end)
end)
