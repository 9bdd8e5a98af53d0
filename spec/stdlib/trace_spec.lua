---The recipe's line before an error: among the calls under way, behind a returned call, in tasks.
local fs = require "rt.fs"
local proc = require "rt.proc"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local library = [[
local sh = require "kiln.sh"
local lib = {}
function lib.quote(word)
  local text = sh.quote(word)
  return text
end
return lib
]]

---A module of kiln's with a fault.
local broken = [[
local broken = {}
function broken.look(value)
  return value.one.two
end
return broken
]]

---Each entry fails; the line of the fault is marked.
local recipe = [[
local blue_green = require "recipes.blue_green"
local broken = require "kiln.broken"
local error_ = require "kiln.error"
local op = require "kiln.op"
local probe = require "kiln.probe"
local scope = require "kiln.scope"
local sh = require "kiln.sh"
local lib = require "lib.words"
local NUL = "\0"
local app = { name = "app" }

function app.direct()
  local text = sh.quote(NUL) -- here: direct
  return text
end

function app.returned(run)
  local spec = { drian = 2 }
  return blue_green(run, spec) -- here: returned
end

function app.several(run, args) -- here: several
  if args.never then return sh.quote("a") end
  return blue_green(run, { drian = 2 })
end

function app.in_task()
  scope.all({ "a", NUL }, function(word)
    local text = sh.quote(word) -- here: in_task
    return text
  end)
end

function app.returned_in_task()
  scope.race {
    function()
      return sh.quote(NUL) -- here: returned_in_task
    end,
  }
end

function app.in_operation()
  op.call { name = "try", class = "read", perform = function()
    local text = sh.quote(NUL) -- here: in_operation
    return text
  end }
end

function app.in_rollout(run)
  run:transaction(function()
    run:step { name = "words", perform = function()
      local text = sh.quote(NUL) -- here: in_rollout
      return text
    end }
  end)
end

function app.fault_in_kiln()
  local text = broken.look {} -- here: fault_in_kiln
  return text
end

function app.own()
  error_.raise { kind = "invalid", message = "this version is not for sale" } -- here: own
end

function app.plain()
  error("a plain text") -- here: plain
end

function app.caught()
  local ok, err = pcall(sh.quote, NUL) -- here: caught
  error(ok or err, 0)
end

function app.fault_caught()
  local ok, text = pcall(broken.look, {}) -- here: fault_caught
  error(ok or text, 0)
end

function app.slow()
  local closed = { host = "127.0.0.1", port = 1, within = 60 }
  scope.within(0.1, function() probe.tcp(closed) end) -- here: slow
end

return app
]]

describe("an error", function()
  local dir, lines = nil, {}

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir, timeout = 60, env = {
      KILN_PATH = dir .. "/overlay:" .. tree, NO_COLOR = "1", KILN_LOCAL_DIR = dir .. "/site",
    } })
  end

  setup(function()
    dir = assert(fs.temp_dir())
    assert(fs.mkdir(dir .. "/lib"))
    assert(fs.write(dir .. "/app.lua", recipe))
    assert(fs.write(dir .. "/lib/words.lua", library))
    assert(fs.mkdir(dir .. "/overlay/stdlib/kiln", { parents = true }))
    assert(fs.write(dir .. "/overlay/stdlib/kiln/broken.lua", broken))
    local number = 0
    for line in recipe:gmatch("([^\n]*)\n") do
      number = number + 1
      local name = line:match("%-%- here: ([%w_]+)")
      if name then lines[name] = number end
    end
  end)

  teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  ---Runs an entry, whose message must begin with its line.
  local function failed(entry)
    local done = kiln("run", "app.lua", entry)
    assert.is_true(done.code == 1 or done.code == 3, done.err) -- 3: there was something to undo
    local message = done.err:match("failed[^\n:]*: ([^\n]*)")
    assert.is_string(message, done.err)
    local place = ("app.lua:%d: "):format(lines[entry])
    assert.equal(place, message:sub(1, #place), message)
    assert.is_nil(done.err:find("traceback", 1, true), done.err)
    assert.is_nil(done.err:find("internal", 1, true), done.err)
    return message:sub(#place + 1)
  end

  for name, said in pairs {
    direct = "a shell word cannot carry a NUL byte",
    returned = "blue_green: unknown option 'drian'; did you mean 'drain'?",
    several = "blue_green: unknown option 'drian'; did you mean 'drain'?",
    in_task = "a shell word cannot carry a NUL byte",
    returned_in_task = "a shell word cannot carry a NUL byte",
    in_operation = "a shell word cannot carry a NUL byte",
    in_rollout = "a shell word cannot carry a NUL byte",
    own = "this version is not for sale",
    plain = "a plain text",
    caught = "a shell word cannot carry a NUL byte",
  } do
    it("names the recipe's line once: " .. name, function()
      assert.equal(said, failed(name))
    end)
  end

  for _, name in ipairs { "fault_in_kiln", "fault_caught" } do
    it("of Lua's in kiln's own code names the recipe's line: " .. name, function()
      local said = failed(name)
      assert.matches("cannot work with what it was given: attempt to index a nil value", said)
      assert.is_nil(said:find("stdlib/", 1, true), said)
    end)
  end

  it("has its traceback in show, in log and with -v", function()
    local shown = ("app.lua:%d: in "):format(lines.direct)
    local done = kiln("run", "-v", "app.lua", "direct")
    assert.matches("stack traceback:", done.err, 1, true)
    assert.matches(shown, done.err, 1, true)
    local id = done.err:match("run (%x+)")
    for _, command in ipairs { "show", "log" } do
      done = kiln(command, id)
      assert.equal(0, done.code, done.err)
      assert.matches("a shell word cannot carry a NUL byte", done.out, 1, true)
      assert.matches(shown, done.out, 1, true)
    end
  end)

  it("of the world shows in show which line it came to", function()
    local done = kiln("run", "app.lua", "slow")
    assert.matches("did not end within 0.1 s", done.err, 1, true)
    assert.is_nil(done.err:find("traceback", 1, true), done.err)
    done = kiln("show", done.err:match("run (%x+)"))
    assert.matches(("    at app.lua:%d\n"):format(lines.slow), done.out, 1, true)
  end)

  it("in a library names the library's line", function()
    assert(fs.write(dir .. "/other.lua", [[
local lib = require "lib.words"
return { deploy = function() lib.quote("\0") end }
]]))
    local done = kiln("run", "other.lua")
    assert.matches("failed: lib/words.lua:4: a shell word cannot", done.err, 1, true)
  end)
end)
