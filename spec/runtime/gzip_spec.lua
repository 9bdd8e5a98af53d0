local crypto = require "rt.crypto"
local gzip = require "rt.gzip"
local proc = require "rt.proc"

---Packs as gzip(1) does; in base64 on the way, for what a pipe's text would not carry.
local function packed(text)
  local done = proc.run { argv = { "sh", "-c", "base64 -d | gzip -c | base64 -w0" },
    stdin = crypto.base64(text) }
  return crypto.unbase64(done.out)
end

describe("rt.gzip", function()
  it("unpacks what gzip packed, one member or several", function()
    local text = ("line é \0\n"):rep(20000)
    assert.equal(text, gzip.unpack(packed(text), #text))
    assert.equal("", gzip.unpack(packed "", 0))
    assert.equal("one two", gzip.unpack(packed "one " .. packed "two", 100))
  end)

  it("packs what gzip reads, and what it reads itself", function()
    for _, text in ipairs { "", "a", ("line é \0\n"):rep(20000), crypto.random(100000) } do
      local done = proc.run { argv = { "sh", "-c", "base64 -d | gzip -dc | base64 -w0" },
        stdin = crypto.base64(gzip.pack(text)) }
      assert.equal(text, crypto.unbase64(done.out))
      assert.equal(text, gzip.unpack(gzip.pack(text), #text))
    end
    assert.has_error(function() gzip.pack(("x"):rep(16 * 1024 * 1024 + 1)) end,
      "bad argument #1 to 'pack' (more than 16 MiB)")
  end)

  it("refuses what is no gzip, cut off, or longer than it may be", function()
    local whole = packed(("text"):rep(1000))
    for _, bytes in ipairs { "no gzip", "", whole:sub(1, -10), whole .. "more" } do
      local plain, err = gzip.unpack(bytes, 4000)
      assert.is_nil(plain)
      assert.equal("invalid", err.kind)
    end
    local plain, err = gzip.unpack(whole, 3999)
    assert.is_nil(plain)
    assert.equal("limit", err.kind)
    assert.equal(4000, #gzip.unpack(whole, 4000))
  end)
end)
