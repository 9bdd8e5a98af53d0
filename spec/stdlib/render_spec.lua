---What a run's display shows while files move.
local render = require "kiln.cli.render"
local progress = require "kiln.ssh.progress"
local timer = require "rt.timer"
local tty = require "rt.tty"
local virtual = require "spec.support.virtual"

describe("the display of a run", function()
  local written, columns, write, size

  before_each(function()
    written, columns, write, size = {}, 80, tty.write, tty.size
    tty.write = function(_, text) written[#written + 1] = text end
    tty.size = function() return columns end
  end)
  after_each(function()
    tty.write, tty.size = write, size
  end)

  ---What is on the screen's live lines after an event.
  local function live_lines(display, event)
    written = {}
    display:event { type = "step.start", name = "next", step_id = 99 }
    display:event { type = "step.stop", name = "next", step_id = 99, step = 1 }
    if event then display:event(event) end
    written = {}
    display:event { type = "step.start", name = "last", step_id = 98 }
    local text = table.concat(written):gsub("\27%[%d*%a", "")
    display:event { type = "step.stop", name = "last", step_id = 98, step = 1 }
    return text
  end

  local function moving(key, bytes, total, more)
    local event = { type = "progress", key = key, name = "upload big to app-1:/opt/big",
      bytes = bytes, total = total, rate = 50e6, left = 1, time = timer.time() }
    for name, value in pairs(more or {}) do event[name] = value end
    return event
  end

  it("says how far a step's transfers are, together, until they end", function()
    local display = render.new { plain = true }
    display.live = true
    display:event { type = "step.start", name = "image app", step_id = 1 }
    local text = live_lines(display, moving("/#1", 100e6, 500e6, { step = 1 }))
    assert.matches("image app .* 100 MB of 500 MB, 50 MB/s, 8 s left\n", text)
    assert.equal(79, utf8.len(text:match "[^\n]+"))
    text = live_lines(display, moving("/2#1", 0, 500e6, { step = 1 }))
    assert.matches("100 MB of 1.0 GB, 100 MB/s, 9 s left", text, 1, true)
    display:event { type = "op.done", key = "/#1", name = "upload", step = 1 }
    assert.matches(" 0 KB of 500 MB, 50 MB/s, 10 s left", live_lines(display), 1, true)
    display:event { type = "op.fail", key = "/2#1", name = "upload", step = 1 }
    assert.not_matches("MB", live_lines(display), 1, true)
  end)

  it("gives a transfer outside of steps a line of its own, and fits the terminal", function()
    local display = render.new { plain = true }
    display.live = true
    columns = 60
    local text = live_lines(display, moving("/#1", 1e6, 500e6))
    assert.matches("· upload big …  ", text, 1, true)
    for line in text:gmatch "[^\n]+" do assert.is_true(utf8.len(line) < 60, line) end
    display:event { type = "op.done", key = "/#1", name = "upload", quiet = true }
    assert.not_matches("upload", live_lines(display), 1, true)
  end)

  it("tells every half minute where there is no terminal", function()
    local _ <close> = virtual()
    local display, told = render.new { plain = true }, 0
    for second = 0, 100 do
      written = {}
      display:event(moving("/#1", second * 1e6, 500e6))
      if #written > 0 then
        told = told + 1
        assert.equal(30 * told, second)
        assert.matches(("· upload big to app%%-1:/opt/big +%d MB of 500 MB"):format(second),
          written[1])
      end
      timer.sleep(1)
    end
    assert.equal(3, told)
  end)
end)

describe("how far a transfer is", function()
  it("is said in few words", function()
    local function text(bytes, total, rate, left)
      return progress.text { bytes = bytes, total = total, rate = rate, left = left }
    end
    assert.equal("120 MB of 500 MB, 84 MB/s, 5 s left", text(120e6, 500e6, 84e6, 4.5))
    assert.equal("1.2 GB of 12 GB, 900 KB/s, 3.3 h left", text(1.2e9, 12e9, 9e5, 12000))
    assert.equal("1 KB, 1 KB/s", text(1000, nil, 1000, nil))
    assert.equal("5 MB of 50 MB", text(5e6, 50e6, 0, nil))
    assert.equal("5 MB of 50 MB, 1 MB/s, 2 min left", text(5e6, 50e6, 1e6, 100))
  end)
end)
