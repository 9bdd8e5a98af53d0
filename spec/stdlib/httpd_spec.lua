local http = require "kiln.http"
local httpd = require "kiln.httpd"
local rt_http = require "rt.http"
local task = require "rt.task"
local timer = require "rt.timer"

---Kept connections end inside the test: the leak guard looks before `after_each`.
local function test(name, body)
  it(name, function()
    body()
    rt_http.forget()
  end)
end

describe("kiln.httpd", function()
  test("answers with what the handler returns, and hands it the request", function()
    local seen
    local server <close> = httpd.serve {
      handler = function(request)
        seen = request
        return { status = 201, headers = { ["X-A"] = "b" }, body = "made" }
      end,
    }
    assert.equal(("http://127.0.0.1:%d"):format(server.port), server.url)
    local got = http.post(server.url .. "/a%20b", { query = { q = "1&2" }, body = "in" })
    assert.same({ 201, "b", "made" }, { got.status, got.headers["x-a"], got.body })
    assert.same({ "POST", "/a b", "1&2", "in" },
      { seen.method, seen.path, seen.query.q, seen.body })
    assert.equal("2", seen.headers["content-length"])
  end)

  test("answers 500 for a handler's error, says so in the log, and goes on", function()
    local logged = {}
    local server <close> = httpd.serve {
      log = function(text) table.insert(logged, text) end,
      handler = function(request)
        if request.path == "/error" then error "no luck" end
        if request.path == "/nothing" then return nil end
        if request.path == "/bad" then return { status = 99 } end
        return {}
      end,
    }
    for _, path in ipairs { "/error", "/nothing", "/bad" } do
      assert.equal(500, http.get(server.url .. path, { check = false }).status)
    end
    assert.equal(200, http.get(server.url).status)
    assert.equal(3, #logged)
    assert.matches("^GET /error: the handler failed: .*httpd_spec.lua:%d+: no luck\nsta", logged[1])
  end)

  test("lets handlers wait beside each other, and hangs up on demand", function()
    local waiting = 0
    local server <close> = httpd.serve {
      handler = function(request)
        if request.path == "/hang" then return { hang_up = true } end
        waiting = waiting + 1
        while waiting < 3 do timer.sleep(0.005) end
        return { body = request.path }
      end,
    }
    local asked = {}
    for i = 1, 3 do
      asked[i] = task.spawn(function() return http.get(server.url .. "/" .. i).body end)
    end
    for i = 1, 3 do assert.same({ true, "/" .. i }, { asked[i]:join() }) end
    local ok, err = pcall(http.post, server.url .. "/hang")
    assert.same({ false, "unreachable", "maybe" }, { ok, err.kind, err.effect })
  end)

  test("ends handlers that wait when it closes, and wakes who waits for it", function()
    local started, ended
    local server = httpd.serve {
      handler = function()
        local mark <close> = setmetatable({}, { __close = function() ended = true end })
        started = true
        timer.sleep(60)
        return { body = tostring(mark) }
      end,
    }
    local waiting = task.spawn(function() server:wait() end)
    local asked = task.spawn(function() return pcall(http.post, server.url) end)
    while not started do timer.sleep(0.005) end
    server:close()
    assert.is_true(ended)
    assert.is_true((waiting:join()))
    local _, ok, err = asked:join()
    assert.same({ false, "unreachable" }, { ok, err.kind })
    server:close()
  end)

  test("raises for a port that is taken and for a missing handler", function()
    local server <close> = httpd.serve { handler = function() return {} end }
    local ok, err = pcall(httpd.serve, { port = server.port, handler = function() end })
    assert.same({ false, "exists" }, { ok, err.kind })
    ok, err = pcall(httpd.serve, {})
    assert.same({ false, "usage" }, { ok, err.kind })
  end)
end)
