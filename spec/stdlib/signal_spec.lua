---Ctrl-C and SIGTERM at many moments, on a terminal.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"

local exe = assert(fs.realpath("/proc/self/exe"))
local tree = assert(fs.cwd())

---Twenty commands that each happen once, in a world of files; kept from happening twice by token.
local recipe = [[
local op = require "kiln.op"
local world = require "kiln.spec_signal"
local app = { name = "app" }
function app.deploy(run)
  return run:transaction(function(undo)
    undo("nothing is undone by a stop", function() world.add "undone" end)
    run:step { name = "commands", perform = function()
      for index = 1, 12 do
        op.call { name = "command " .. index, class = "once",
          perform = function(token) return world.once(token, index) end }
      end
    end }
  end)
end
function app.busy()
  op.call { name = "busy", class = "idempotent", perform = function()
    if not world.seen "busy" then
      world.add "busy"
      while true do end
    end
  end }
end
function app.ask()
  op.call { name = "ask", class = "idempotent", perform = function()
    if not world.seen "asked" then world.add "asked" world.ask() end
  end }
end
return app
]]

local world = [[
local fs, timer, tty = require "rt.fs", require "rt.timer", require "rt.tty"
local path = %q
local world = {}
function world.add(text) assert(fs.write(path, text .. "\n", { append = true })) end
function world.seen(text) return (fs.read(path) or ""):find(text .. "\n", 1, true) ~= nil end
function world.once(token, index)
  if world.seen(token) then return index end
  world.add(token)
  timer.sleep(0.01)
  return index
end
function world.ask() assert(tty.read_line("Password: ", { echo = false })) end
return world
]]

describe("a signal", function()
  local dir

  before_each(function()
    dir = assert(fs.temp_dir())
    assert(fs.mkdir(dir .. "/stdlib/kiln", { parents = true }))
    assert(fs.mkdir(dir .. "/providers"))
    assert(fs.write(dir .. "/app.lua", recipe))
    assert(fs.write(dir .. "/stdlib/kiln/spec_signal.lua", world:format(dir .. "/world")))
    assert(fs.write(dir .. "/providers/none.lua",
      'return { new = function() return { name = "none", capabilities = {} } end }'))
  end)

  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  local function run(argv)
    return assert(proc.run { argv = argv, cwd = dir, timeout = 60,
      env = { KILN_PATH = dir .. ":" .. tree, KILN_CLOUD = "none" } })
  end

  ---Runs kiln on a terminal; returns how it ended, what it printed, and its last run.
  local function on_terminal(events, words)
    local argv = { exe:match("^(.*)/") .. "/pty" }
    table.move(events, 1, #events, #argv + 1, argv)
    argv[#argv + 1] = exe
    table.move(words, 1, #words, #argv + 1, argv)
    local done = run(argv)
    local out, how, code, termios = done.out:match("^(.*)\npty: (%l+) (%d+) termios (%l+)\n$")
    assert.is_not_nil(out, done.out .. done.err)
    assert.equal("same", termios, out)
    assert.is_nil(out:find("\27[?25l", 1, true), "the cursor is hidden")
    local listed = run { exe, "runs", "--json" }
    local rows = listed.code == 0 and json.decode(listed.out) or {}
    return how .. " " .. code, out, rows[1]
  end

  local function effects()
    local seen, count = {}, 0
    for line in (fs.read(dir .. "/world") or ""):gmatch("[^\n]+") do
      assert.is_nil(seen[line], "twice: " .. line)
      seen[line] = true
      count = count + 1
    end
    return count
  end

  it("stops a run resumable at any moment, and only a second one leaves at once", function()
    local ends = {}
    for moment = 0, 23 do
      fs.remove(dir .. "/world")
      fs.remove(dir .. "/.kiln", { recursive = true })
      local at = moment * 0.02
      local events = { moment % 2 == 0 and "-c" or "-t", tostring(at) }
      if moment % 3 == 0 then table.move({ "-c", tostring(at + 0.01) }, 1, 2, 3, events) end
      local how, out, row = on_terminal(events, { "run", "app.lua" })
      ends[how] = (ends[how] or 0) + 1
      local context = ("%s after %g s: %s"):format(how, at, out)
      if row and row.status ~= "done" then
        assert.is_true(how == "exit 4", context)
        local resumed = run { exe, "resume", row.id }
        assert.equal(0, resumed.code, context .. resumed.err)
      elseif row then
        assert.is_true(how == "exit 0" or how == "exit 4", context)
      else -- it had not begun
        local left = how == "exit 130" or how == "exit 143" or how:find("^signal") ~= nil
          or how == "exit 4" and #events == 4
        assert.is_true(left, context)
        assert.equal(0, effects(), context)
      end
      if row then assert.equal(12, effects(), context) end
    end
    local text = {}
    for how, count in pairs(ends) do text[#text + 1] = ("%d %s"):format(count, how) end
    table.sort(text)
    io.write("\nsignals: 24 moments: ", table.concat(text, ", "), "\n")
    assert.is_true((ends["exit 4"] or 0) >= 3)
  end)

  it("leaves at once the second time, also while the recipe computes", function()
    local how, _, row = on_terminal({ "-m", "run ", "-c", "0.5", "-c", "1" }, { "run", "app.lua",
      "busy" })
    assert.equal("exit 4", how)
    local resumed = run { exe, "resume", row.id }
    assert.equal(0, resumed.code, resumed.err)
  end)

  it("gives the echo back when it ends a question for a password", function()
    for _, second in ipairs { false, true } do
      fs.remove(dir .. "/world")
      local events = { "-m", "Password: ", "-c", "0.1" }
      if second then table.move({ "-c", "0.1" }, 1, 2, 5, events) end
      local how, out, row = on_terminal(events, { "run", "app.lua", "ask" })
      assert.is_true(how == "exit 4" or how == "exit 1", how .. out)
      assert.is_not_nil(row)
    end
  end)

  it("of a failed assertion gives the echo back and says that the run can be resumed", function()
    local how, out, row = on_terminal({ "-m", "Password: ", "-a", "0.1" }, { "run", "app.lua",
      "ask" })
    assert.equal("signal 6", how)
    assert.matches("a run that was going on can be resumed: kiln runs", out, 1, true)
    local resumed = run { exe, "resume", row.id }
    assert.equal(0, resumed.code, resumed.err)
  end)
end)
