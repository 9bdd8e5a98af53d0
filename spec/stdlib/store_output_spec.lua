local crypto = require "rt.crypto"
local fs = require "rt.fs"
local store_ = require "kiln.store"

describe("what commands print, in the store", function()
  local dir, store

  before_each(function()
    dir = assert(fs.temp_dir())
    store = store_.open(dir)
  end)

  after_each(function()
    store:close()
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function say(text, stream, key)
    store:output_line { v = 1, run = "aa", path = "/", name = "m", key = key or "k", text = text,
      stream = stream or "out" }
  end

  ---All lines of the run, as "out text", and the events that had some left out before them.
  local function told()
    local lines, gaps = {}, {}
    for _, row in ipairs(store:events("aa")) do
      for _, event in ipairs(store.output_events(row)) do
        lines[#lines + 1] = event.stream .. " " .. event.text
        gaps[#gaps + 1] = event.dropped
      end
    end
    return lines, gaps
  end

  it("comes back as it was, in order, whatever bytes it has", function()
    local bytes = "\0\27[31m\200\r" .. ("x"):rep(1000)
    say "one"
    say("two", "err")
    say(bytes)
    say ""
    store:output_end "k"
    assert.same({ "out one", "err two", "out " .. bytes, "out " }, (told()))
    local count, last = store:output_told("aa", "k")
    assert.same({ out = 3, err = 1 }, count)
    assert.same({ out = "", err = "two" }, last)
  end)

  it("takes few rows and little room", function()
    for number = 1, 40000 do say("line " .. number) end
    store:output_end "k"
    assert.is_true(#store:events("aa") < 12, #store:events("aa"))
    assert.equal(40000, #told())
    assert.is_true(fs.stat(dir .. "/.kiln/state.db").size < 500000)
  end)

  it("keeps the first and the last of what is too much, and counts the rest", function()
    local noise = crypto.hex(crypto.random(500))
    for number = 1, 20000 do say(number .. noise) end -- 20 MB that do not get smaller
    local dropped = store:output_end "k"
    local lines, gaps = told()
    assert.equal("out 1" .. noise, lines[1])
    assert.equal("out 20000" .. noise, lines[#lines])
    assert.equal(1, #gaps)
    assert.equal(20000, #lines + gaps[1].out)
    assert.equal(dropped, gaps[1].bytes)
    local count = store:output_told("aa", "k")
    assert.same({ out = 20000, err = 0 }, count)
    store:close()
    assert.is_true(fs.stat(dir .. "/.kiln/state.db").size < 3 * 1024 * 1024)
    store = store_.open(dir)
  end)

  it("is written when the store closes, also of a command that has not ended", function()
    for number = 1, 3 do say("a" .. number, "out", "a") end
    say("b1", "err", "b")
    store:close()
    store = store_.open(dir)
    assert.same({ out = 3, err = 0 }, (store:output_told("aa", "a")))
    assert.same({ out = 0, err = 1 }, (store:output_told("aa", "b")))
  end)
end)
