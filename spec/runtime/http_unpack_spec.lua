---Answers that come packed as gzip.
local fs = require "rt.fs"
local http = require "rt.http"
local proc = require "rt.proc"
local web = require "spec.support.web"

local function gzip(text, level)
  local done = assert(proc.run { argv = { "gzip", "-n", level or "-6" }, stdin = text,
    max_output = 1 << 26 })
  assert.equal(0, done.code)
  return done.out
end

describe("rt.http's packed answers", function()
  ---Serves a body under these headers; gives what a request makes of it.
  local function ask(body, options, headers)
    headers = headers or { ["Content-Encoding"] = "gzip" }
    local site <close> = web.start(function() return { body = body, headers = headers } end)
    local request = { url = site.url, compressed = true }
    for name, value in pairs(options or {}) do request[name] = value end
    local answer, err = http.request(request)
    return answer, err, site.seen[1]
  end

  it("are asked for and unpacked", function()
    local text = ("a line of it\n"):rep(10000)
    local answer, _, seen = ask(gzip(text))
    assert.equal(text, answer.body)
    assert.equal("gzip", seen.headers["accept-encoding"])
    assert.equal(text, ask(gzip(text), nil, { ["Content-Encoding"] = "X-GZIP" }).body)
    assert.equal("plain", ask("plain", nil, {}).body)
    assert.equal("plain", ask("plain", nil, { ["Content-Encoding"] = "identity" }).body)
  end)

  it("come as they are when they were not asked for, or by a header of one's own", function()
    local packed = gzip "text"
    local answer, _, seen = ask(packed, { compressed = false })
    assert.equal(packed, answer.body)
    assert.is_nil(seen.headers["accept-encoding"])
    answer, _, seen = ask(packed, { headers = { ["Accept-Encoding"] = "br, gzip" } })
    assert.equal(packed, answer.body)
    assert.equal("br, gzip", seen.headers["accept-encoding"])
  end)

  it("may be of several members, with other bytes after the last", function()
    local both = gzip "one, " .. gzip "" .. gzip "two"
    assert.equal("one, two", ask(both).body)
    assert.equal("one, two", ask(both .. "\0\0\0 and more").body)
  end)

  it("fail when they were cut off at any byte, however the end is told", function()
    local packed = gzip("what is cut off is not whole " .. ("x"):rep(100)) .. gzip "second"
    local first = #gzip("what is cut off is not whole " .. ("x"):rep(100))
    local cut
    local site <close> = web.start(function(request)
      local headers = { ["Content-Encoding"] = "gzip" }
      if request.target:find "length" then
        return { body = packed:sub(1, cut), headers = headers }
      end
      assert(request:start { headers = headers }) -- in chunks
      assert(request:write(packed:sub(1, cut)))
      request:finish()
    end)
    for at = 1, #packed do
      cut = at
      for _, way in ipairs { "length", "chunks" } do
        local answer, err = http.request { url = site.url .. "?" .. way, compressed = true }
        if at == first or at == #packed then
          assert.is_truthy(answer, err and err.message)
        else
          assert.is_nil(answer, ("%d bytes of %d, by %s"):format(at, #packed, way))
          assert.equal("protocol", err.kind)
          assert.matches("the packed body ends early", err.message, 1, true)
        end
      end
    end
  end)

  it("fail when they are no gzip, or come in a way that was not asked for", function()
    local packed = gzip(("text"):rep(100))
    for _, bad in ipairs { "plain text, not packed", packed:sub(1, -9) .. "wrongsum" } do
      local _, err = ask(bad)
      assert.equal("protocol", err.kind)
      assert.matches("is no gzip", err.message, 1, true)
    end
    local _, err = ask("x", nil, { ["Content-Encoding"] = "br" })
    assert.equal("protocol", err.kind)
    assert.matches("packed as 'br', which was not asked for", err.message, 1, true)
  end)

  it("may have no body", function()
    assert.equal("", ask("").body)
    assert.equal("", ask("", { method = "HEAD" }).body)
    local site <close> = web.start(function()
      return { status = 204, headers = { ["Content-Encoding"] = "gzip" } }
    end)
    assert.equal(204, http.request({ url = site.url, compressed = true }).status)
  end)

  describe("that are a bomb", function()
    local bomb

    lazy_setup(function()
      local done = assert(proc.run { max_output = 1 << 26,
        argv = { "sh", "-c", "head -c 1073741824 /dev/zero | gzip -1" } })
      bomb = done.out -- of 1 GB
    end)
    lazy_teardown(function() bomb = nil end)

    local function memory()
      return tonumber(assert(fs.read("/proc/self/statm")):match "%d+ (%d+)") * 4096
    end

    it("end at the bound of what is unpacked", function()
      local before = memory()
      local _, err = ask(bomb, { max_body = 1000000 })
      assert.equal("limit", err.kind)
      assert.matches("exceeds 1000000 bytes", err.message, 1, true)
      assert.is_true(memory() - before < 256 * 1024 * 1024)
    end)

    it("fill no memory as a stream that is read slowly", function()
      local site <close> = web.start(function()
        return { body = bomb, headers = { ["Content-Encoding"] = "gzip" } }
      end)
      local exchange <close> = assert(http.open { url = site.url, compressed = true,
        max_body = 100 * 1024 * 1024 })
      local before, total, largest, err = memory(), 0, 0
      while true do
        local bytes
        bytes, err = exchange:read()
        if not bytes then break end
        assert.is_nil(bytes:find("[^\0]"))
        total = total + #bytes
        largest = math.max(largest, #bytes)
      end
      assert.equal("limit", err.kind, err.message)
      assert.is_true(total > 99 * 1024 * 1024 and total <= 100 * 1024 * 1024)
      assert.is_true(largest <= 512 * 1024, largest)
      assert.is_true(memory() - before < 256 * 1024 * 1024)
    end)
  end)

  it("come whole as a stream that is read slowly", function()
    local text = ("%d\n"):rep(300000):gsub("%%d", tostring)
    local site <close> = web.start(function()
      return { body = gzip(text), headers = { ["Content-Encoding"] = "gzip" } }
    end)
    local exchange <close> = assert(http.open { url = site.url, compressed = true })
    local pieces = {}
    while true do
      local bytes, err = exchange:read()
      assert.is_nil(err)
      if not bytes then break end
      pieces[#pieces + 1] = bytes
    end
    assert.is_true(table.concat(pieces) == text)
  end)
end)

describe("rt.http's cookies", function()
  it("are off: none is kept or sent", function()
    local site <close> = web.start(function()
      return { headers = { ["Set-Cookie"] = "id=1; Path=/" } }
    end)
    for _ = 1, 3 do assert(http.request { url = site.url }) end
    require("kiln.http").get(site.url .. "again")
    assert.equal(4, #site.seen)
    for _, request in ipairs(site.seen) do assert.is_nil(request.headers.cookie) end
  end)

  it("do not go along with a redirect", function()
    local site <close> = web.start(function(_, count)
      return { status = count == 1 and 302 or 200,
        headers = { ["Set-Cookie"] = "id=1; Path=/", Location = "/next" } }
    end)
    require("kiln.http").get(site.url, { redirects = 3 })
    assert.equal(2, #site.seen)
    assert.is_nil(site.seen[2].headers.cookie)
  end)
end)
