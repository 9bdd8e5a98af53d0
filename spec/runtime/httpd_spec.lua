local http = require "rt.http"
local httpd = require "rt.httpd"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"

---Serves until the server closes; each request in a task of its own.
local function serve(server, answer)
  return task.spawn(function()
    while true do
      local request = server:accept()
      if not request then return end
      task.spawn(function()
        local guarded <close> = request
        answer(guarded)
      end)
    end
  end)
end

local function url(server, path)
  return ("http://127.0.0.1:%d%s"):format(server:port(), path or "/")
end

describe("rt.httpd", function()
  local server, serving

  local function start(answer, opts)
    server = assert(httpd.listen(opts))
    serving = serve(server, answer)
  end

  local function stop()
    if server then server:close() end
    if serving then serving:join() end
    server, serving = nil, nil
    http.forget()
  end

  ---The leak guard looks before `after_each`, so what a test started ends inside of it.
  local function test(name, body)
    it(name, function()
      local _ <close> = setmetatable({}, { __close = stop })
      body()
    end)
  end

  test("hands over method, path, query, headers and body", function()
    local seen
    start(function(request)
      seen = { request.method, request.path, request.query, request.headers["x-one"], request.body }
      request:respond()
    end)
    assert(http.request {
      url = url(server, "/a%20b?x=1&y=%26&x=2"), method = "PUT", headers = { ["X-One"] = "1" },
      body = "abc\0def",
    })
    assert.same({ "PUT", "/a b", { x = "1", y = "&" }, "1", "abc\0def" }, seen)
  end)

  test("answers with status, headers and body", function()
    start(function(request)
      request:respond { status = 418, headers = { ["X-Kettle"] = "short" }, body = "\0tea" }
    end)
    local answer = assert(http.request { url = url(server) })
    assert.equal(418, answer.status)
    assert.equal("short", answer.headers["x-kettle"])
    assert.equal("\0tea", answer.body)
    assert.is_true(answer.seconds < 5)
  end)

  test("takes a big body in both directions", function()
    start(function(request) request:respond { body = request.body:reverse() } end)
    local body = ("0123456789"):rep(300000)
    local answer = assert(http.request { url = url(server), method = "POST", body = body })
    assert.is_true(answer.body == body:reverse())
  end)

  test("answers in any order, from any task", function()
    start(function(request)
      timer.sleep(request.path == "/slow" and 0.05 or 0)
      request:respond { body = request.path }
    end)
    local order = {}
    local tasks = {}
    for i, path in ipairs { "/slow", "/fast" } do
      tasks[i] = task.spawn(function()
        local answer = assert(http.request { url = url(server, path) })
        order[#order + 1] = answer.body
      end)
    end
    for _, one in ipairs(tasks) do assert.is_true((one:join())) end
    assert.same({ "/fast", "/slow" }, order)
  end)

  test("answers with a 500 when a request is dropped", function()
    start(function() end)
    assert.equal(500, assert(http.request { url = url(server) }).status)
  end)

  test("answers with a 500 when a request is collected", function()
    server = assert(httpd.listen())
    local function forget() server:accept() end
    local asked = task.spawn(function()
      return assert(http.request { url = url(server) }).status
    end)
    forget()
    collectgarbage()
    collectgarbage()
    assert.same({ true, 500 }, { asked:join() })
  end)

  test("hangs up on demand", function()
    start(function(request) request:hang_up() end)
    local _, err = http.request { url = url(server) }
    assert.equal("unreachable", err.kind)
    assert.equal("maybe", err.effect)
  end)

  test("refuses a body that is announced or turns out too long", function()
    start(function(request) request:respond() end, { max_body = 100 })
    local fine = { url = url(server), method = "POST", body = ("x"):rep(100) }
    assert.equal(200, assert(http.request(fine)).status)
    assert.equal(413, assert(http.request {
      url = url(server), method = "POST", body = ("x"):rep(101), fresh_connection = true,
    }).status)
    assert.equal(413, assert(http.request {
      url = url(server), method = "POST", body = ("x"):rep(1000000),
      headers = { ["Transfer-Encoding"] = "chunked" },
    }).status)
    assert.equal(413, assert(http.request {
      url = url(server), method = "POST", body = ("x"):rep(8000000),
    }).status)
  end)

  test("refuses headers that are too long", function()
    start(function(request) request:respond() end, { max_headers = 2048 })
    local answer = assert(http.request {
      url = url(server), headers = { ["X-Long"] = ("x"):rep(4000) }, fresh_connection = true,
    })
    assert.is_true(answer.status == 431 or answer.status == 413 or answer.status == 414)
  end)

  test("lets more connections than it takes wait for their turn", function()
    local now, most = 0, 0
    start(function(request)
      now = now + 1
      most = math.max(most, now)
      timer.sleep(0.01)
      now = now - 1
      request:respond()
    end, { connections = 2 })
    local tasks = {}
    for i = 1, 8 do
      tasks[i] = task.spawn(function()
        return assert(http.request { url = url(server), fresh_connection = true }).status
      end)
    end
    for _, one in ipairs(tasks) do assert.same({ true, 200 }, { one:join() }) end
    assert.equal(2, most)
  end)

  test("ends a peer that makes no progress", function()
    start(function(request) request:respond() end, { idle_timeout = 1 })
    local done = assert(proc.run {
      argv = { "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$0; printf 'GET / HT' >&3; cat <&3",
        tostring(server:port()) },
      timeout = 10,
    })
    assert.equal(0, done.code)
  end)

  test("wakes who waits for a request when it closes", function()
    server = assert(httpd.listen())
    local waiting = task.spawn(function() return server:accept() end)
    timer.sleep(0)
    server:close()
    local _, request, err = waiting:join()
    assert.is_nil(request)
    assert.equal("stopped", err.kind)
    assert.equal("stopped", select(2, server:accept()).kind)
  end)

  test("ends connections when it closes, and a late answer is not possible", function()
    server = assert(httpd.listen())
    local asked = task.spawn(function() return http.request { url = url(server) } end)
    local request <close> = server:accept()
    server:close()
    assert.is_false(request:respond())
    local _, answer, err = asked:join()
    assert.is_nil(answer)
    assert.equal("unreachable", err.kind)
  end)

  test("sends an answer that was given before it closed", function()
    server = assert(httpd.listen())
    local asked = task.spawn(function() return http.request { url = url(server) } end)
    local request = server:accept()
    request:respond { body = "last" }
    server:close()
    local _, answer = asked:join()
    assert.equal("last", answer.body)
  end)

  test("stops waiting for a request when its task is cancelled", function()
    start(function(request) request:respond() end)
    local waiting = task.spawn(function() return server:accept() end)
    timer.sleep(0)
    waiting:cancel()
    assert.is_false((waiting:join()))
    for _ = 1, 3 do assert.equal(200, assert(http.request { url = url(server) }).status) end
  end)

  test("listens on a unix socket, for its owner only", function()
    local path = os.tmpname()
    os.remove(path)
    start(function(request) request:respond { body = request.headers.host } end,
      { unix_socket = path })
    assert.equal(0, server:port())
    local answer = assert(http.request { url = "http://name.example/", unix_socket = path })
    assert.equal("name.example", answer.body)
    local again, err = httpd.listen { unix_socket = path }
    assert.is_nil(again)
    assert.equal("exists", err.kind)
    server:close()
    assert.is_nil(io.open(path))
  end)

  test("says that a port is taken", function()
    server = assert(httpd.listen())
    local again, err = httpd.listen { port = server:port() }
    assert.is_nil(again)
    assert.equal("exists", err.kind)
  end)

  test("raises for a second answer, a bad status, a bad header", function()
    server = assert(httpd.listen())
    local asked = task.spawn(function() return http.request { url = url(server) } end)
    local request <close> = server:accept()
    assert.has_error(function() request:respond { status = 99 } end)
    assert.has_error(function() request:respond { headers = { ["X"] = "a\r\nSet-Cookie: b" } } end)
    assert.has_error(function() request:respond { headers = { ["Content-Length"] = "9" } } end)
    assert.has_error(function() request:respond { colour = "red" } end)
    assert.is_true(request:respond())
    assert.has_error(function() request:respond() end)
    asked:join()
  end)
end)
