---rt.httpd's answers in pieces, its deadlines, and peers that are not ours.
local fs = require "rt.fs"
local http = require "rt.http"
local httpd = require "rt.httpd"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local certificates = require "spec.support.certificates"

local block = ("0123456789abcdef"):rep(4096) -- 64 KiB

---Serves each request in a task of its own; ends with its block.
local function serve(answer, opts)
  local server = assert(httpd.listen(opts))
  local tasks = {}
  tasks[1] = task.spawn(function()
    while true do
      local request = server:accept()
      if not request then return end
      tasks[#tasks + 1] = task.spawn(function()
        local held <close> = request
        answer(held)
      end)
    end
  end)
  local scheme = opts and opts.cert and "https" or "http"
  local port = server:port()
  return setmetatable({ url = ("%s://127.0.0.1:%d/"):format(scheme, port), port = port }, {
    __close = function()
      server:close()
      for _, one in ipairs(tasks) do one:join() end
      http.forget()
    end,
  })
end

local function curl(...)
  return assert(proc.run { argv = { "curl", "-sS", "--max-time", "20", ... }, timeout = 30,
    max_output = 32 * 1024 * 1024 })
end

---Writes bytes to a port as they are and gives what comes back until the server ends it.
local function talk(port, script)
  return assert(proc.run {
    argv = { "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/" .. port .. "\n" .. script }, timeout = 30,
  })
end

describe("rt.httpd's streams", function()
  it("arrive whole at curl, in chunks, and keep the connection", function()
    local on <close> = serve(function(request)
      request:start { headers = { ["X-Kind"] = "stream" } }
      for _ = 1, 50 do assert(request:write(block)) end
      request:write ""
      request:finish()
    end)
    local done = curl("-i", on.url)
    assert.matches("X%-Kind: stream", done.out)
    assert.matches("Transfer%-Encoding: chunked", done.out)
    assert.is_true(done.out:match("\r\n\r\n(.*)$") == block:rep(50))
    done = curl("-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", on.url, on.url)
    assert.equal("1 0 ", done.out)
    done = curl("-I", on.url)
    assert.matches("^HTTP/1.1 200", done.out)
    done = curl("--http1.0", "-o", "/dev/null", "-w", "%{size_download}", on.url)
    assert.equal(tostring(50 * #block), done.out)
  end)

  it("are cut off, and not ended, when the request is closed in the middle", function()
    local on <close> = serve(function(request)
      request:start()
      request:write "half"
      if request.path == "/hang" then request:hang_up() end
    end)
    for _, path in ipairs { "", "hang" } do
      local done = curl(on.url .. path)
      assert.equal("half", done.out)
      assert.equal(18, done.code) -- a transfer that is not whole
    end
  end)

  it("tell the writer that the peer has gone", function()
    local err, started
    local on <close> = serve(function(request)
      request:start()
      started = true
      repeat
        local done
        done, err = request:write(block)
      until not done
      assert.is_false(request:is_open())
      request:finish()
    end)
    local exchange = assert(http.open { url = on.url })
    assert(exchange:read())
    exchange:close()
    local deadline = timer.now() + 10
    while not err and timer.now() < deadline do timer.sleep(0.01) end
    assert.is_true(started)
    assert.equal("unreachable", err.kind)
  end)

  it("end for a peer that does not read, and not for one that reads slowly", function()
    local err
    local on <close> = serve(function(request)
      request:start()
      for _ = 1, 200 do
        local done
        done, err = request:write(block)
        if not done then return end
      end
      request:finish()
    end, { answer_timeout = 1, idle_timeout = 60 })
    local done = talk(on.port,
      [[printf 'GET / HTTP/1.1\r\nHost: a\r\n\r\n' >&3; sleep 4; cat <&3 | wc -c]])
    assert.equal("unreachable", err.kind)
    assert.is_true(tonumber(done.out) < 200 * #block)
    err = nil
    local exchange <close> = assert(http.open { url = on.url })
    local length = 0
    for bytes in exchange.read, exchange do
      length = length + #bytes
      if length < 20 * #block then timer.sleep(0.2) end -- longer than the deadline in all
    end
    assert.equal(200 * #block, length)
    assert.is_nil(err)
    exchange:close()
  end)

  it("cannot be started twice, or have no body", function()
    local on <close> = serve(function(request)
      assert.has_error(function() request:write "x" end)
      assert.has_error(function() request:finish() end)
      assert.has_error(function() request:start { status = 204 } end)
      assert.is_true(request:start())
      assert.has_error(function() request:start() end)
      assert.has_error(function() request:respond() end)
      request:finish()
      assert.has_error(function() request:write "x" end)
    end)
    assert.equal("", assert(http.request { url = on.url }).body)
  end)

  it("end with the server", function()
    local server = assert(httpd.listen())
    local err
    local serving = task.spawn(function()
      local request <close> = server:accept()
      request:start()
      request:write "first"
      timer.sleep(0.2)
      err = select(2, request:write "second")
    end)
    local url = ("http://127.0.0.1:%d/"):format(server:port())
    local exchange <close> = assert(http.open { url = url })
    assert.equal("first", exchange:read())
    server:close()
    assert(select(2, exchange:read()))
    serving:join()
    assert.equal("unreachable", err.kind)
    exchange:close()
    http.forget()
  end)

  it("send files", function()
    local path = os.tmpname()
    assert(fs.write(path, block:rep(30)))
    local err
    local on <close> = serve(function(request)
      local gone = request.path == "/gone"
      err = select(2, request:respond { file = gone and path .. ".gone" or path })
      if err then request:respond { status = 404 } end
    end)
    assert.is_true(curl(on.url).out == block:rep(30))
    assert.equal(404, assert(http.request { url = on.url .. "gone" }).status)
    assert.equal("not_found", err.kind)
    os.remove(path)
  end)
end)

describe("rt.httpd", function()
  it("decodes the path and keeps what was sent", function()
    local on <close> = serve(function(request)
      request:respond { body = ("%s|%s|%s|%s"):format(request.path, request.target,
        request.query.a or "", request.query["b c"] or "") }
    end)
    local done = curl("--path-as-is", on.url .. "x%2Fy%20z/../%C3%A4?a=1%262&b%20c=d+e&a=3")
    assert.equal("/x/y z/../ä|/x%2Fy%20z/../%C3%A4?a=1%262&b%20c=d+e&a=3|1&2|d e", done.out)
    assert.equal("400", curl("-o", "/dev/null", "-w", "%{http_code}", on.url .. "a%00b").out)
    assert.equal("400", curl("-o", "/dev/null", "-w", "%{http_code}", on.url .. "?a=%00").out)
    assert.equal("/%zz|/%zz||", curl(on.url .. "%zz").out)
  end)

  it("names the peer", function()
    local on <close> = serve(function(request) request:respond { body = request.peer } end)
    local done = curl("-w", "|%{local_port}", on.url)
    local port, sent_from = done.out:match("^127%.0%.0%.1:(%d+)|(%d+)$")
    assert.equal(sent_from, port)
  end)

  it("answers HEAD with the headers of GET and no body", function()
    local on <close> = serve(function(request)
      request:respond { body = "12345", headers = { ["X-Method"] = request.method } }
    end)
    local answer = assert(http.request { url = on.url, method = "HEAD" })
    assert.same({ "5", "HEAD", "" },
      { answer.headers["content-length"], answer.headers["x-method"], answer.body })
  end)

  it("takes requests one after the other from a peer that sends them at once", function()
    local on <close> = serve(function(request)
      if request.path == "/1" then timer.sleep(0.1) end
      request:respond { body = "<" .. request.path .. ">" }
    end)
    local done = talk(on.port, [[printf 'GET /%d HTTP/1.1\r\nHost: a\r\n\r\n' 1 2 >&3
      printf 'GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&3; cat <&3]])
    local seen = {}
    for path in done.out:gmatch("<(/%d)>") do seen[#seen + 1] = path end
    assert.same({ "/1", "/2", "/3" }, seen)
  end)

  it("refuses what is no HTTP, and what can be read in two ways", function()
    local requests = 0
    local on <close> = serve(function(request)
      requests = requests + 1
      request:respond {}
    end, { idle_timeout = 1 })
    for _, text in ipairs {
      [[SSH-2.0-OpenSSH\r\n\r\n]], [[GET /\r\n\r\n]], [[GET / HTTP/1.1\r\n\r\n]],
      [[POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n]],
      [[POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd]],
      [[POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n]]
        .. [[0\r\n\r\n]],
      [[GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n]],
    } do
      local done = talk(on.port, ("printf '%s' >&3; cat <&3"):format(text))
      assert.not_matches("200 OK", done.out, 1, true, text)
    end
    assert.equal(0, requests)
  end)

  it("bounds the bodies that wait together", function()
    local held = {}
    local on <close> = serve(function(request)
      held[#held + 1] = #request.body
      request:respond {}
    end, { max_buffered = 100000 })
    local function post(size, headers)
      return assert(http.request { url = on.url, method = "POST", body = ("x"):rep(size),
        headers = headers }).status
    end
    assert.equal(200, post(100000))
    assert.equal(503, post(100001))
    assert.equal(503, post(150000, { ["Transfer-Encoding"] = "chunked" }))
    for _ = 1, 5 do assert.equal(200, post(60000, { ["Transfer-Encoding"] = "chunked" })) end
    assert.equal(6, #held)
  end)

  it("ends a peer that sends a byte now and then, at a deadline for the whole request", function()
    local on <close> = serve(function(request) request:respond {} end,
      { request_timeout = 2, idle_timeout = 60 })
    local before = timer.now()
    local done = talk(on.port, [[printf 'POST / HTTP/1.1\r\nHost: a\r\nX: ' >&3
      (while printf x >&3; do sleep 0.2; done) 2>/dev/null & cat <&3; kill $!]])
    assert.equal("", done.out)
    local took = timer.now() - before
    assert.is_true(took > 1.5 and took < 15, "took " .. took)
    -- Time to answer is the handler's own: it does not count.
    local slow <close> = serve(function(request)
      timer.sleep(2)
      request:respond {}
    end, { request_timeout = 1, answer_timeout = 1 })
    assert.equal(200, assert(http.request { url = slow.url }).status)
  end)

  it("gives a long body the time it needs at 16 KiB a second", function()
    local on <close> = serve(function(request) request:respond {} end, { request_timeout = 1 })
    local exchange <close> = assert(http.open {
      url = on.url, method = "POST", streams = true, length = 10 * 16384 })
    for _ = 1, 10 do
      assert.is_true(exchange:write(block:sub(1, 16384)))
      timer.sleep(0.25)
    end
    assert.equal(200, exchange:head().status)
    exchange:close()
  end)

  it("forgets a peer that leaves while its request is handled", function()
    local late
    local on <close> = serve(function(request)
      timer.sleep(0.3)
      late = request:respond { body = "late" }
    end)
    local _, err = http.request { url = on.url, timeout = 0.05 }
    assert.equal("timeout", err.kind)
    while late == nil do timer.sleep(0.01) end
    assert.equal(200, assert(http.request { url = on.url }).status)
  end)
end)

describe("rt.httpd over TLS", function()
  local made

  setup(function() made = certificates.make() end)
  teardown(function() made:close() end)

  it("serves curl and our own client, from TLS 1.2 on", function()
    local on <close> = serve(function(request)
      if request.path == "/stream" then
        request:start()
        for _ = 1, 40 do assert(request:write(block)) end
        request:finish()
        return
      end
      request:respond { body = request.body }
    end, { cert = made:text "server.pem", key = made:text "server.key" })
    assert.is_true(curl("--cacert", made:path "ca.pem", on.url .. "stream").out == block:rep(40))
    local body = block:rep(20)
    for _, http2 in ipairs { false, true } do
      local answer = assert(http.request { url = on.url, method = "POST", body = body,
        ca_file = made:path "ca.pem", http2 = http2 })
      assert.same({ 1.1, true }, { answer.http, answer.body == body })
    end
    assert.equal(35, curl("--cacert", made:path "ca.pem", "--tls-max", "1.1", on.url).code)
    local plain = talk(on.port, [[printf 'GET / HTTP/1.1\r\nHost: a\r\n\r\n' >&3; cat <&3]])
    assert.not_matches("200", plain.out)
  end)

  it("says that certificate and key are none, and never shows the key", function()
    local server, err = httpd.listen { cert = "no certificate", key = "no s3cr3t" }
    assert.is_nil(server)
    assert.equal("tls", err.kind)
    assert.not_matches("s3cr3t", err.message, 1, true)
    assert.has_error(function() httpd.listen { cert = "c" } end)
  end)
end)
