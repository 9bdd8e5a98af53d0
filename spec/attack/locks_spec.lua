---Leases between PID namespaces, as two containers with one project's folder have them.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local recipes = require "spec.support.recipes"

local exe = assert(fs.realpath("/proc/self/exe"))
local unshare = { "unshare", "-pf", "--mount-proc", "--kill-child" }

---A script that runs the folder's recipe; prints how it ended.
local script = [[
local recipes = dofile("spec/support/recipes.lua")
local outcome = require("kiln.run").start {
  file = arg[1] .. "/app.lua", cloud = "none", lease = tonumber(arg[3]),
  args = { world = arg[1] .. "/world", wait = tonumber(arg[2]) },
}
io.write(outcome.status, " ", outcome.error and outcome.error.message or "", "\n")
]]

describe("a lease", function()
  local folder

  before_each(function()
    folder = recipes.folder()
    folder:write("app.lua", recipes.three_steps)
    folder:write("child.lua", script)
  end)

  after_each(function() fs.remove(folder.dir, { recursive = true }) end)

  local function words(prefix, wait, lease)
    local argv = table.move(prefix, 1, #prefix, 1, {})
    return table.move({ exe, "lua", folder.dir .. "/child.lua", folder.dir, tostring(wait),
      tostring(lease) }, 1, 6, #argv + 1, argv)
  end

  local function start(prefix, wait, lease)
    local child = assert(proc.start { argv = words(prefix, wait, lease), timeout = 60 })
    repeat timer.sleep(0.02) until folder:read("world"):find("two", 1, true)
    return child
  end

  local function run(prefix, wait, lease)
    return assert(proc.run { argv = words(prefix, wait, lease), timeout = 60 }).out
  end

  it("of a run in another PID namespace keeps this one out, and the other way round", function()
    for _, case in ipairs { { unshare, {} }, { {}, unshare }, { unshare, unshare } } do
      fs.remove(folder.dir .. "/world")
      local first <close> = start(case[1], 60, 30)
      assert.matches("^locked run %x+ works on app: process %d+ of .*@", run(case[2], 0, 30))
      first:kill("KILL")
      first:wait()
      fs.remove(folder.dir .. "/.kiln", { recursive = true })
    end
  end)

  it("of a run in another namespace is not believed dead, even with the number of none here",
    function()
      local first = start(unshare, 60, 30)
      local store <close> = require("kiln.store").open(folder.dir)
      local rows = store:runs()
      assert.equal("running", store:state_of(rows[1]))
      first:close()
    end)

  it("of a run that died in another namespace is free when it has expired", function()
    local first <close> = start(unshare, 60, 3)
    local died = timer.now()
    first:kill("KILL")
    first:wait()
    assert.matches("^locked", run({}, 0, 3))
    repeat
      timer.sleep(0.2)
      local out = run({}, 0, 3)
    until not out:find("^locked") or timer.now() - died > 10
    local waited = timer.now() - died
    assert.is_true(waited > 1.5 and waited < 10, ("taken over after %.1f s"):format(waited))
  end)

  it("of a dead process of the same namespace is free at once", function()
    local first <close> = start({}, 60, 30)
    first:kill("KILL")
    first:wait()
    assert.matches("^done", run({}, 0, 30))
  end)

  it("is not judged by a /proc of another namespace: that one says nothing of who lives", function()
    local blind = { "unshare", "-pf", "--kill-child" }
    local first <close> = start(blind, 60, 3)
    assert.matches("^locked", run(blind, 0, 3))
    first:kill("KILL")
  end)

  it("names the namespace where the process number counts", function()
    local text = 'io.write(require("rt.json").encode(require("rt.proc").info()))'
    folder:write("who.lua", text)
    local function who(prefix)
      local argv = table.move(prefix, 1, #prefix, 1, {})
      table.move({ exe, "lua", folder.dir .. "/who.lua" }, 1, 3, #argv + 1, argv)
      return json.decode(assert(proc.run { argv = argv }).out)
    end
    local here, there = who {}, who(unshare)
    local seen = assert(proc.run { argv = { "readlink", "/proc/self/ns/pid" } }).out
    assert.equal(seen, here.pid_namespace .. "\n")
    assert.not_equal(here.pid_namespace, there.pid_namespace)
    assert.equal(here.boot_id, there.boot_id)
    assert.equal("", who({ "unshare", "-pf", "--kill-child" }).pid_namespace)
  end)
end)
