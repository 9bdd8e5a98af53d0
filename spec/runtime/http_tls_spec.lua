---rt.http over TLS, against `openssl s_server` and nghttpd: peers that are not ours.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local http = require "rt.http"
local httpd = require "rt.httpd"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local certificates = require "spec.support.certificates"

local function installed(program)
  return assert(proc.run { argv = { "sh", "-c", "command -v " .. program } }).code == 0
end

local function failed(kind, effect, request)
  local answer, err = http.request(request)
  assert.is_nil(answer)
  assert.same({ kind, effect }, { err.kind, err.effect })
  return err
end

describe("rt.http over TLS", function()
  local made

  setup(function() made = certificates.make() end)
  teardown(function() made:close() end)

  ---Kept connections end inside the test, where the leak guard looks.
  local function test(name, body)
    it(name, function()
      body()
      http.forget()
    end)
  end

  test("refuses an unknown authority and another name, takes a known one", function()
    local server <close> = made:serve()
    failed("tls", "none", { url = server.url, method = "POST" })
    local other = server.url:gsub("127.0.0.1", "localhost")
    failed("tls", "none", { url = other, ca_file = made:path "ca.pem" })
    failed("tls", "none", { url = server.url, ca_file = "/no/such/file" })
    failed("tls", "none", { url = server.url, ca = "no certificate" })
    failed("tls", "none", { url = server.url, ca = made:text "client.pem" })
    assert.equal(200, assert(http.request {
      url = server.url, ca_file = made:path "ca.pem" }).status)
    assert.equal(200, assert(http.request { url = server.url, ca = made:text "ca.pem" }).status)
  end)

  test("shows a client's certificate: from files, from text, under a password", function()
    local server <close> = made:serve("-Verify", "1", "-CAfile", "ca.pem", "-verify_return_error")
    local function ask(fields)
      fields.url, fields.ca = server.url, made:text "ca.pem"
      fields.fresh_connection = true
      return fields
    end
    assert.equal(200, assert(http.request(ask {
      cert_file = made:path "client.pem", key_file = made:path "client.key" })).status)
    local key = crypto.secret(made:text "client.key")
    assert.equal(200, assert(http.request(ask { cert = made:text "client.pem", key = key })).status)
    local locked = { cert_file = made:path "client.pem", key_file = made:path "locked.key",
      key_password = crypto.secret "opensesame" }
    assert.equal(200, assert(http.request(ask(locked))).status)
    locked.key_password = "wrong"
    failed("tls", "none", ask(locked))
    failed("tls", "maybe", ask {}) -- TLS 1.3 says so after the handshake
    failed("tls", "none", ask { cert_file = made:path "client.pem",
      key_file = made:path "server.key" })
  end)

  test("speaks no TLS below 1.2", function()
    local server <close> = made:serve("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    failed("tls", "none", { url = server.url, ca = made:text "ca.pem" })
  end)

  test("has no option that switches verification off", function()
    for _, name in ipairs { "insecure", "verify", "verify_peer", "verify_host", "ssl_verify" } do
      for _, value in ipairs { true, false } do
        local ok, err = pcall(http.request, { url = "https://127.0.0.1:1/", [name] = value })
        assert.is_false(ok)
        assert.matches("unknown option '" .. name .. "'", err, 1, true)
      end
    end
    assert.has_error(function() http.request { url = "https://127.0.0.1:1/", cert = "c" } end)
    assert.has_error(function() http.request { url = "https://h/", ca = "c", ca_file = "f" } end)
  end)

  ---Runs nghttpd on a free port while `body` runs.
  local function with_nghttpd(body)
    if not installed "nghttpd" then
      pending "nghttpd is not installed (Debian: nghttp2-server): HTTP/2 is not tried"
      return
    end
    assert(fs.mkdir(made:path "site", { parents = true }))
    assert(fs.write(made:path "site/text", ("some text, again and again\n"):rep(100000)))
    local free = assert(httpd.listen()) -- nghttpd takes no port 0
    local port = free:port()
    free:close()
    local child = assert(proc.start {
      argv = { "nghttpd", "--address=127.0.0.1", "-v", "--echo-upload", "-d", made:path "site",
        tostring(port), made:path "server.key", made:path "server.pem" },
    })
    local lines = task.spawn(function() while child:read_line() do end end)
    local stop <close> = setmetatable({}, { __close = function()
      child:kill("KILL")
      child:wait()
      lines:join()
    end })
    local url = ("https://127.0.0.1:%d/text"):format(port)
    local deadline = timer.now() + 20
    repeat
      local answer = http.request { url = url, ca = made:text "ca.pem", http2 = true }
      if not answer then timer.sleep(0.05) end
    until answer or timer.now() > deadline
    body(url, stop)
    http.forget()
  end

  test("speaks HTTP/2 where it may and the server does: many requests on one connection", function()
    with_nghttpd(function(url)
      local size = 27 * 100000
      local tasks = {}
      for i = 1, 40 do
        tasks[i] = task.spawn(function()
          local answer = assert(http.request { url = url, ca = made:text "ca.pem", http2 = true })
          return answer.http, #answer.body
        end)
      end
      for _, one in ipairs(tasks) do assert.same({ true, 2.0, size }, { one:join() }) end
      local err = failed("unreachable", "maybe", { url = url, ca = made:text "ca.pem" })
      assert.matches("Empty reply", err.message, 1, true) -- nghttpd speaks nothing else
      local echoed = ("0123456789"):rep(50000)
      local answer = assert(http.request {
        url = url, method = "POST", body = echoed, http2 = true, ca = made:text "ca.pem" })
      assert.same({ 2.0, true }, { answer.http, answer.body == echoed })
      failed("limit", "maybe", { url = url, http2 = true, max_body = 1000,
        ca = made:text "ca.pem" })
    end)
  end)

  test("streams over HTTP/2, held back by who does not read", function()
    with_nghttpd(function(url)
      local exchange <close> = assert(http.open {
        url = url, method = "POST", streams = true, http2 = true, ca = made:text "ca.pem" })
      local block, sent = ("x"):rep(65536), 64
      local writing = task.spawn(function()
        for _ = 1, sent do assert(exchange:write(block)) end
        exchange:finish()
      end)
      assert.equal(200, assert(exchange:head()).status)
      local length = 0
      while true do
        local bytes, err = exchange:read()
        assert.is_nil(err)
        if not bytes then break end
        length = length + #bytes
      end
      writing:join()
      assert.equal(sent * #block, length)
      exchange:close()
    end)
  end)
end)
