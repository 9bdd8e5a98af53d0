local crypto = require "rt.crypto"
local http = require "kiln.http"
local httpd = require "kiln.httpd"
local proc = require "rt.proc"
local rt_http = require "rt.http"
local task = require "rt.task"
local timer = require "rt.timer"
local certificates = require "spec.support.certificates"

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

  test("finds the route by method and path", function()
    local function named(name)
      return function(request)
        local params = {}
        for key, value in pairs(request.params) do params[#params + 1] = key .. "=" .. value end
        table.sort(params)
        return { body = name .. " " .. table.concat(params, " ") }
      end
    end
    local server <close> = httpd.serve { handler = httpd.routes {
      ["GET /"] = named "root",
      ["GET /v2/machines"] = named "list",
      ["POST /v2/machines"] = named "create",
      ["GET /v2/machines/:id"] = named "one",
      ["GET /v2/machines/self"] = named "self",
      ["DELETE /v2/machines/:id/disks/:disk"] = named "remove",
      ["GET /files/*path"] = named "file",
      ["GET /a.b+c"] = named "exact",
    } }
    local function ask(method, path)
      local answer = http.request { method = method, url = server.url .. path, check = false }
      return answer.status == 200 and answer.body or answer.status, answer.headers.allow
    end
    assert.equal("root ", (ask("GET", "/")))
    assert.equal("list ", (ask("GET", "/v2/machines")))
    assert.equal("create ", (ask("POST", "/v2/machines")))
    assert.equal("one id=7 8", (ask("GET", "/v2/machines/7%208")))
    assert.equal("self ", (ask("GET", "/v2/machines/self")))
    assert.equal("remove disk=b id=a", (ask("DELETE", "/v2/machines/a/disks/b")))
    assert.equal("file path=x/y.txt", (ask("GET", "/files/x/y.txt")))
    assert.equal("exact ", (ask("GET", "/a.b+c")))
    assert.equal(404, (ask("GET", "/axb+c")))
    assert.equal(404, (ask("GET", "/v2/machines/")))
    assert.same({ 405, "GET, HEAD, POST" }, { ask("PUT", "/v2/machines") })
    assert.equal("", (ask("HEAD", "/v2/machines/7")))
    assert.same({ 405, "DELETE" }, { ask("HEAD", "/v2/machines/a/disks/b") })
    local ok, err = pcall(httpd.routes, { ["get /"] = named "no" })
    assert.same({ false, "usage" }, { ok, err.kind })
  end)

  test("streams what a function writes, and cuts it off when that fails", function()
    local logged = {}
    local server <close> = httpd.serve {
      log = function(text) table.insert(logged, text) end,
      handler = function(request)
        return { headers = { ["X-A"] = "b" }, body = function(write)
          for i = 1, 3 do
            write(tostring(i))
            timer.sleep(0.01)
          end
          if request.path == "/fails" then error "no luck" end
        end }
      end,
    }
    local answer = http.get(server.url)
    assert.same({ "123", "b" }, { answer.body, answer.headers["x-a"] })
    assert.equal("", http.request { url = server.url, method = "HEAD" }.body)
    local ok, err = pcall(http.get, server.url .. "/fails", { attempts = 1 })
    assert.same({ false, "protocol" }, { ok, err.kind })
    assert.equal(1, #logged)
    assert.matches("no luck", logged[1], 1, true)
  end)

  test("sends events as the standard has them", function()
    local server <close> = httpd.serve { handler = function()
      return { events = function(send)
        send "plain"
        send { event = "state", id = "7", retry = 2000, data = "two\nlines\r\nand\n" }
        send { data = "" }
      end }
    end }
    local done = proc.run { argv = { "curl", "-sSNi", server.url } }
    assert.matches("Content%-Type: text/event%-stream\r\n", done.out)
    assert.matches("Cache%-Control: no%-store\r\n", done.out)
    assert.equal("data: plain\n\n"
      .. "event: state\nid: 7\nretry: 2000\ndata: two\ndata: lines\ndata: and\ndata: \n\n"
      .. "data: \n\n", done.out:match("\r\n\r\n(.*)$"))
  end)

  test("notices by its heartbeat that who heard the events has gone", function()
    local ended, logged = nil, {}
    local server <close> = httpd.serve {
      heartbeat = 0.1, log = function(text) table.insert(logged, text) end,
      handler = function()
        return { events = function(send)
          send "hello"
          local ok, err = pcall(timer.sleep, 60)
          ended = { ok, err.kind }
          error(err, 0)
        end }
      end,
    }
    local exchange = assert(rt_http.open { url = server.url })
    assert.equal("data: hello\n\n", exchange:read())
    assert.equal(":\n\n", exchange:read())
    assert.is_nil(ended)
    exchange:close()
    local deadline = timer.now() + 20
    while not ended and timer.now() < deadline do timer.sleep(0.02) end
    assert.same({ false, "unreachable" }, ended)
    assert.same({}, logged)
  end)

  test("serves TLS, on loopback unless told otherwise", function()
    local made <close> = certificates.make()
    local server <close> = httpd.serve {
      cert = made:text "server.pem", key = crypto.secret(made:text "server.key"),
      handler = function(request) return { body = request.peer } end,
    }
    assert.matches("^https://127%.0%.0%.1:%d+$", server.url)
    assert.matches("^127%.0%.0%.1:%d+$", http.get(server.url, { ca = made:text "ca.pem" }).body)
    local ok, err = pcall(http.get, server.url)
    assert.same({ false, "tls" }, { ok, err.kind })
  end)
end)
