local lfs = require "lfs"
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local http = require "rt.http"
local httpd = require "rt.httpd"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local tcp_server = require "spec.support.tcp_server"

---A server that answers every request with `answer(request)`; closes with its block.
local function serve(answer)
  local server = assert(httpd.listen())
  local serving = task.spawn(function()
    while true do
      local request <close> = server:accept()
      if not request then return end
      request:respond(answer(request))
    end
  end)
  return setmetatable({ url = ("http://127.0.0.1:%d/"):format(server:port()), server = server }, {
    __close = function()
      server:close()
      serving:join()
    end,
  })
end

local function descriptors()
  local count = 0
  for _ in lfs.dir("/proc/self/fd") do count = count + 1 end
  return count
end

local function refused(err, kind, effect)
  assert.equal(kind, err.kind)
  assert.equal(effect, err.effect)
end

---The leak guard looks before `after_each`, so kept connections end inside the test.
local function test(name, body)
  it(name, function()
    body()
    http.forget()
  end)
end

describe("rt.http", function()

  test("gives status, headers in lower case, body and time", function()
    local on <close> = serve(function()
      return { status = 404, headers = { ["X-Up"] = "Yes", ["content-type"] = "a/b" }, body = "no" }
    end)
    local answer = assert(http.request { url = on.url })
    assert.equal(404, answer.status)
    assert.equal("Yes", answer.headers["x-up"])
    assert.equal("a/b", answer.headers["content-type"])
    assert.equal("no", answer.body)
    assert.is_true(answer.seconds > 0)
  end)

  test("sends method, headers and body as they are, and none of its own for content", function()
    local seen
    local on <close> = serve(function(request)
      seen = { request.method, request.body, request.headers }
      return {}
    end)
    assert(http.request {
      url = on.url, method = "PATCH", body = "{}", headers = { ["X-Empty"] = "" },
    })
    assert.equal("PATCH", seen[1])
    assert.equal("{}", seen[2])
    assert.equal("", seen[3]["x-empty"])
    assert.is_nil(seen[3]["content-type"])
    assert.is_nil(seen[3].expect)
    assert.matches("^kiln/", seen[3]["user-agent"])
    for _, method in ipairs { "HEAD", "DELETE", "POST", "PUT", "GET" } do
      assert.equal(200, assert(http.request { url = on.url, method = method }).status)
      assert.same({ method, "" }, { seen[1], seen[2] })
    end
  end)

  test("sends secrets as header and body, and never shows them", function()
    local seen
    local on <close> = serve(function(request)
      seen = { request.headers.authorization, request.body }
      return {}
    end)
    local secret = crypto.secret("s3cr3t-token")
    local asked = {
      url = on.url, method = "POST", headers = { Authorization = secret }, body = secret,
    }
    assert(http.request(asked))
    assert.same({ "s3cr3t-token", "s3cr3t-token" }, seen)
    asked.headers = { Authorization = crypto.secret("s3cr3t\r\nX: y") }
    local _, raised = pcall(http.request, asked)
    assert.matches("header 'Authorization' has a line break", raised)
    assert.not_matches("s3cr3t", raised)
  end)

  it("asks through the environment's proxy, which decides nothing about the request", function()
    local script = os.tmpname()
    local file = assert(io.open(script, "w"))
    file:write [[
      local http = require "rt.http"
      local urls = { "http://far.invalid/a", "https://far.invalid/", "http://127.0.0.1:1/" }
      for _, url in ipairs(urls) do
        local got, err = http.request { url = url, method = "POST" }
        print(got and got.body or err.kind .. " " .. err.effect)
      end
      print(select(2, http.request { url = "http://far.invalid/a", direct = true }).kind)
    ]]
    file:close()
    local on <close> = serve(function(request)
      return { status = request.method == "CONNECT" and 403 or 200, body = "by proxy" }
    end)
    local done = assert(proc.run {
      argv = { proc.info().exe, "lua", script }, timeout = 20,
      env = { http_proxy = on.url, https_proxy = on.url },
    })
    os.remove(script)
    assert.equal("by proxy\nunreachable none\nunreachable none\nunreachable\n", done.out, done.err)
  end)

  test("keeps user and query of the URL out of messages", function()
    local _, err = http.request { url = "http://joe:pass@127.0.0.1:1/path?token=abc" }
    refused(err, "unreachable", "none")
    assert.matches("GET http://127.0.0.1:1/path: ", err.message, 1, true)
    assert.not_matches("pass@", err.message)
    assert.not_matches("abc", err.message)
  end)

  test("says that nothing happened when it cannot connect or resolve", function()
    refused(select(2, http.request { url = "http://127.0.0.1:1/" }), "unreachable", "none")
    refused(select(2, http.request { url = "http://no-such-name.invalid/" }), "unreachable", "none")
    refused(select(2, http.request { url = "http://h/", unix_socket = "/no/such/socket" }),
      "unreachable", "none")
  end)

  test("says that a request may have had an effect when the connection ends after it", function()
    local server <close> = tcp_server.start("read-close")
    refused(select(2, http.request { url = server.url, method = "POST", body = "x" }),
      "unreachable", "maybe")
    server:request()
  end)

  test("fails when the connection ends before the request was read", function()
    local server <close> = tcp_server.start("close")
    local _, err = http.request { url = server.url, method = "POST" }
    assert.equal("unreachable", err.kind)
  end)

  test("fails on half a response", function()
    local half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"
    local server <close> = tcp_server.start("answer", half)
    refused(select(2, http.request { url = server.url }), "protocol", "maybe")
  end)

  test("fails on what is no HTTP", function()
    local server <close> = tcp_server.start("answer", "SSH-2.0-OpenSSH_9.2\r\n\r\n")
    refused(select(2, http.request { url = server.url }), "protocol", "maybe")
  end)

  test("gives up on a stalled server, and lets others run meanwhile", function()
    local server <close> = tcp_server.start("stall")
    local turns, ended = 0, false
    local other = task.spawn(function()
      while not ended do timer.sleep(0.01); turns = turns + 1 end
    end)
    local before = timer.now()
    local _, err = http.request { url = server.url, timeout = 0.3 }
    local took = timer.now() - before
    ended = true
    refused(err, "timeout", "maybe")
    assert.is_true(took > 0.25 and took < 5, "took " .. took)
    assert.is_true(turns >= 2, turns .. " turns")
    other:join()
  end)

  test("bounds the response", function()
    local on <close> = serve(function() return { body = ("x"):rep(1000) } end)
    assert.equal(1000, #assert(http.request { url = on.url, max_body = 1000 }).body)
    local _, err = http.request { url = on.url, max_body = 999 }
    refused(err, "limit", "maybe")
    assert.matches("exceeds 999 bytes", err.message)
  end)

  test("bounds the response's headers", function()
    local header = "X: " .. ("x"):rep(995) .. "\r\n"
    local server <close> = tcp_server.start("headers", header)
    local _, err = http.request { url = server.url }
    refused(err, "limit", "maybe")
    assert.matches("headers exceed 262144 bytes", err.message)
  end)

  test("joins headers that come several times", function()
    local server <close> = tcp_server.start("answer",
      "HTTP/1.1 200 OK\r\nVia: a\r\nVia: b\r\nContent-Length: 0\r\n\r\n")
    assert.equal("a, b", assert(http.request { url = server.url }).headers.via)
  end)

  test("repeats a GET on a kept connection that ended, but never a POST", function()
    local answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    for method, repeated in pairs { GET = true, POST = false } do
      local server <close> = tcp_server.start("once", answer)
      assert(http.request { url = server.url })
      server:request()
      local again, err = http.request { url = server.url, method = method }
      server:request()
      if repeated then
        assert.same({ "hi", 1 }, { again.body, again.resent })
        server:request()
      else
        refused(err, "unreachable", "maybe")
        assert.matches("the connection ended", err.message)
      end
      http.forget()
    end
  end)

  test("uses a connection again, unless told not to", function()
    local on <close> = serve(function() return {} end)
    local function more_descriptors(fresh)
      local before = descriptors()
      for _ = 1, 5 do assert(http.request { url = on.url, fresh_connection = fresh }) end
      timer.sleep(0.02) -- the server notices the ends
      return descriptors() - before
    end
    assert(http.request { url = on.url }) -- the pool's own descriptors, and one connection
    assert.equal(0, more_descriptors(true))
    assert.equal(0, more_descriptors(false))
    http.forget()
    timer.sleep(0.02)
    assert.is_true(more_descriptors(false) > 0)
  end)

  test("follows no redirect", function()
    local on <close> = serve(function()
      return { status = 302, headers = { Location = "/there" } }
    end)
    local answer = assert(http.request { url = on.url })
    assert.same({ 302, "/there" }, { answer.status, answer.headers.location })
  end)

  test("speaks no protocol but http and https", function()
    for _, url in ipairs { "ftp://h/", "file:///etc/passwd", "sftp://h/", "gopher://h/" } do
      refused(select(2, http.request { url = url }), "unsupported", "none")
    end
    refused(select(2, http.request { url = "no url" }), "invalid", "none")
  end)

  test("raises for wrong options", function()
    assert.has_error(function() http.request { url = "http://h/", methd = "GET" } end)
    assert.has_error(function() http.request { url = "http://h/", method = "get" } end)
    assert.has_error(function() http.request { url = "http://h/", timeout = 0 } end)
    assert.has_error(function() http.request { url = "http://h/", headers = { ["a b"] = "x" } } end)
    assert.has_error(function() http.request { url = "http://h/", headers = { a = 1 } } end)
    assert.has_error(function() http.request {} end)
  end)

  test("aborts at once when its task is cancelled", function()
    local server <close> = tcp_server.start("stall")
    local asking = task.spawn(http.request, { url = server.url })
    timer.sleep(0.05)
    server:request()
    local before = timer.now()
    asking:cancel()
    local ok, err = asking:join()
    assert.is_false(ok)
    assert.equal("cancelled", err.kind)
    assert.is_true(timer.now() - before < 5) -- and not its 60 s
  end)

  ---Runs a program of its own.
  local function ends(text)
    local script = os.tmpname()
    assert(fs.write(script, text))
    local done = assert(proc.run { argv = { proc.info().exe, "lua", script }, timeout = 20 })
    assert.same({ 0, "" }, { done.code, done.err })
    os.remove(script)
  end

  it("ends with the program, in the middle of requests", function()
    ends [[
      local http, httpd, task = require "rt.http", require "rt.httpd", require "rt.task"
      server = assert(httpd.listen())
      for _ = 1, 3 do
        task.spawn(http.request, { url = "http://127.0.0.1:" .. server:port() })
      end
      waiting = { server:accept(), server:accept() }
      task.spawn(server.accept, server)
      task.spawn(require("rt.tcp").reach, { host = "192.0.2.1", port = 9 })
      require("rt.timer").sleep(0.01)
    ]]
  end)

  it("ends with the program, while a name is looked up", function()
    ends [[
      local task = require "rt.task"
      task.spawn(require("rt.http").request, { url = "http://no-such-name.invalid/" })
      require("rt.timer").sleep(0.01)
    ]]
  end)

  test("runs many requests at the same time", function()
    local on <close> = serve(function(request) return { body = request.path } end)
    local tasks = {}
    for i = 1, 100 do
      tasks[i] = task.spawn(function()
        return assert(http.request { url = on.url .. i }).body
      end)
    end
    for i, one in ipairs(tasks) do assert.same({ true, "/" .. i }, { one:join() }) end
  end)

  it("bounds the connections to a host, and holds deadlines for who waits for one", function()
    http.bound(8, 2)
    local now, most, requests = 0, 0, 0
    local server = assert(httpd.listen())
    local serving = task.spawn(function()
      while true do
        local request = server:accept()
        if not request then return end
        now = now + 1
        most = math.max(most, now)
        task.spawn(function()
          local held <close> = request
          requests = requests + 1
          timer.sleep(held.path == "/long" and 1.5 or 0.02)
          now = now - 1
          held:respond()
        end)
      end
    end)
    local url = ("http://127.0.0.1:%d"):format(server:port())
    local tasks = {}
    for i = 1, 10 do
      tasks[i] = task.spawn(function() return assert(http.request { url = url .. "/" }).status end)
    end
    for _, one in ipairs(tasks) do assert.same({ true, 200 }, { one:join() }) end
    assert.same({ 2, 10 }, { most, requests })
    for i = 1, 2 do
      tasks[i] = task.spawn(function() return http.request { url = url .. "/long" } end)
    end
    while now < 2 do timer.sleep(0.005) end
    local before = timer.now()
    local _, err = http.request { url = url .. "/", timeout = 0.3, method = "POST" }
    assert.same({ "timeout", "none" }, { err.kind, err.effect })
    assert.matches("no connection was free", err.message, 1, true)
    assert.is_true(timer.now() - before < 1.4)
    for i = 1, 2 do tasks[i]:join() end
    http.forget()
    server:close()
    serving:join()
    http.bound(256, 64)
  end)
end)
