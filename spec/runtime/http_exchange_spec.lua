---rt.http.open: requests whose bodies move in pieces.
local fs = require "rt.fs"
local http = require "rt.http"
local httpd = require "rt.httpd"
local task = require "rt.task"
local timer = require "rt.timer"
local tcp_server = require "spec.support.tcp_server"

---A server that gives every request to `answer`, one after the other; closes with its block.
local function serve(answer, opts)
  local server = assert(httpd.listen(opts))
  local serving = task.spawn(function()
    while true do
      local request <close> = server:accept()
      if not request then return end
      answer(request)
    end
  end)
  return setmetatable({ url = ("http://127.0.0.1:%d/"):format(server:port()) }, {
    __close = function()
      server:close()
      serving:join()
      http.forget()
    end,
  })
end

local function read_all(exchange)
  local pieces = {}
  while true do
    local bytes, err = exchange:read()
    if not bytes then return table.concat(pieces), err end
    pieces[#pieces + 1] = bytes
  end
end

---Waits until a number stays the same for half a second.
local function settle(value)
  local last
  repeat
    last = value()
    timer.sleep(0.5)
  until last == value()
  return last
end

local block = ("0123456789abcdef"):rep(4096) -- 64 KiB

describe("rt.http.open", function()
  it("sends a body in pieces: in chunks, or with a length that is known", function()
    local seen
    local on <close> = serve(function(request)
      seen = request.headers
      request:respond { body = tostring(#request.body) .. request.body:sub(-3) }
    end)
    for _, length in ipairs { -1, 40 * #block + 3 } do
      local exchange <close> = assert(http.open {
        url = on.url, method = "PUT", streams = true, length = length,
      })
      for _ = 1, 40 do assert.is_true(exchange:write(block)) end
      assert.is_true(exchange:write "end")
      exchange:finish()
      assert.equal(200, assert(exchange:head()).status)
      assert.equal((40 * #block + 3) .. "end", read_all(exchange))
      assert.is_nil(exchange:read())
      assert.equal(length < 0 and "chunked" or nil, seen["transfer-encoding"])
      assert.equal(length > 0 and tostring(length) or nil, seen["content-length"])
    end
  end)

  it("holds the writer back when the server does not read", function()
    local server <close> = tcp_server.start("stall")
    local exchange <close> = assert(http.open { url = server.url, method = "POST", streams = true })
    local written = 0
    local writing = task.spawn(function()
      exchange:write "x"
      server:request()
      server.child:kill("STOP")
      while written < 4096 do
        if not exchange:write(block) then return end
        written = written + 1
      end
    end)
    local most = settle(function() return written end)
    assert.is_true(most > 0 and most < 512, most .. " blocks of 64 KiB taken")
    exchange:close()
    assert.is_true((writing:join()))
  end)

  it("holds the server back when nobody reads, and loses nothing", function()
    local written = 0
    local on <close> = serve(function(request)
      request:start()
      for _ = 1, 1024 do
        assert(request:write(block))
        written = written + 1
      end
      request:finish()
    end)
    local exchange <close> = assert(http.open { url = on.url })
    assert.equal(200, exchange:head().status)
    local most = settle(function() return written end)
    assert.is_true(most > 0 and most < 512, most .. " blocks of 64 KiB written")
    local body, err = read_all(exchange)
    assert.is_nil(err)
    assert.equal(1024 * #block, #body)
    assert.is_true(body == block:rep(1024))
    exchange:close()
  end)

  it("says that the answer broke off", function()
    local on <close> = serve(function(request)
      request:start()
      request:write "half"
      timer.sleep(0.05)
      request:hang_up()
    end)
    local exchange <close> = assert(http.open { url = on.url })
    assert.equal(200, exchange:head().status)
    local body, err = read_all(exchange)
    assert.equal("half", body)
    assert.equal("maybe", err.effect)
    assert.equal(err.message, select(2, exchange:read()).message)
  end)

  it("hears an answer that comes before the body's end", function()
    local server <close> = tcp_server.start("early",
      "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    local exchange <close> = assert(http.open { url = server.url, method = "PUT", streams = true })
    local more, written = true, 0
    while more and written < 4096 do
      more = exchange:write(block)
      written = written + 1
    end
    assert.is_false(more)
    assert.equal(403, assert(exchange:head()).status)
    assert.equal("no", (read_all(exchange)))
  end)

  it("gives the head's failure to who waits for it", function()
    local exchange <close> = assert(http.open { url = "http://127.0.0.1:1/" })
    local head, err = exchange:head()
    assert.is_nil(head)
    assert.same({ "unreachable", "none" }, { err.kind, err.effect })
    assert.equal("unreachable", select(2, exchange:read()).kind)
    exchange:close()
    http.forget()
  end)

  it("ends when no byte moves for too long", function()
    local server <close> = tcp_server.start("stall")
    local exchange <close> = assert(http.open { url = server.url, stall_timeout = 1 })
    local _, err = exchange:head()
    assert.same({ "timeout", "maybe" }, { err.kind, err.effect })
  end)

  it("wakes who waits when it is closed, and when its task is cancelled", function()
    local server <close> = tcp_server.start("stall")
    local exchange = assert(http.open { url = server.url })
    local waiting = task.spawn(function() return exchange:head() end)
    timer.sleep(0)
    exchange:close()
    exchange:close()
    assert.equal("stopped", select(3, waiting:join()).kind)
    local other <close> = assert(http.open { url = server.url })
    waiting = task.spawn(function() return other:read() end)
    timer.sleep(0)
    waiting:cancel()
    assert.is_false((waiting:join()))
  end)

  it("refuses what makes no sense", function()
    local server <close> = tcp_server.start("stall")
    assert.has_error(function() http.open { url = server.url, streams = true, body = "x" } end)
    assert.has_error(function() http.open { url = server.url, streams = true, method = "HEAD" } end)
    assert.has_error(function() http.request { url = server.url, streams = true } end)
    local exchange <close> = assert(http.open { url = server.url })
    assert.has_error(function() exchange:write "x" end)
    assert.has_error(function() exchange:finish() end)
    local waiting = task.spawn(function() exchange:head() end)
    timer.sleep(0)
    assert.has_error(function() exchange:head() end)
    exchange:close()
    waiting:join()
    assert.has_error(function() exchange:head() end)
  end)
end)

describe("rt.http's bodies", function()
  local path

  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("are text and files in a row, sent with their length", function()
    local seen
    local on <close> = serve(function(request)
      seen = request.headers
      request:respond { body = request.body }
    end)
    local big = block:rep(20)
    assert(fs.write(path, big))
    local answer = assert(http.request {
      url = on.url, method = "POST", body = { "<", { file = path }, "", { file = path }, ">" },
    })
    assert.is_true(answer.body == "<" .. big .. big .. ">")
    assert.equal(tostring(2 * #big + 2), seen["content-length"])
    assert(fs.write(path, ""))
    answer = assert(http.request { url = on.url, method = "PUT", body = { { file = path } } })
    assert.same({ "", "0" }, { answer.body, seen["content-length"] })
  end)

  it("are not sent when a file cannot be read", function()
    local _, err = http.request { url = "http://127.0.0.1:1/", method = "PUT",
      body = { { file = path .. ".gone" } } }
    assert.same({ "not_found", "none" }, { err.kind, err.effect })
    assert.matches(path, err.message, 1, true)
    _, err = http.request {
      url = "http://127.0.0.1:1/", method = "PUT", body = { { file = "/tmp" } },
    }
    assert.same({ "invalid", "none" }, { err.kind, err.effect })
    http.forget()
  end)

  it("break off when a file becomes shorter", function()
    assert(fs.write(path, block:rep(1024)))
    local server <close> = tcp_server.start("stall")
    local asked = task.spawn(function()
      return http.request { url = server.url, method = "PUT", body = { { file = path } } }
    end)
    server:request()
    server.child:kill("STOP") -- the rest of the 64 MiB does not fit between the two
    timer.sleep(0.3)
    assert(io.open(path, "w")):close()
    server.child:kill("CONT")
    local _, answer, err = asked:join()
    assert.is_nil(answer)
    assert.same({ "io", "maybe" }, { err.kind, err.effect })
    assert.matches(path .. " became shorter", err.message, 1, true)
  end)
end)
