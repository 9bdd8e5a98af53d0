local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local recipes = require "spec.support.recipes"
local store = require "kiln.store"

local three_steps = recipes.three_steps

local function with_world(folder) return { world = folder.dir .. "/world" } end

describe("the lock of a service", function()
  it("lets only one run at a time work on a service", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", three_steps)
    local args = with_world(folder)
    args.wait = 60
    local second
    local outcome = folder:start("app.lua", { args = args, started = function(handle)
      task.spawn(function()
        repeat timer.sleep(0.01) until folder:read("world"):find("two")
        second = folder:start("app.lua", { args = with_world(folder) })
        handle.stop()
      end)
    end })
    assert.equal("stopped", outcome.status)
    assert.equal("locked", second.status, second.error and second.error.message)
    assert.equal(5, second.exit)
    local message = second.error.message
    assert.matches("run " .. outcome.run:sub(1, 4) .. " works on app: process ", message, 1, true)
    assert.matches("now at '[^']+'; wait for it with %-%-lock%-wait", message)
  end)

  it("waits for the lock as long as it was told to", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", three_steps)
    local args = with_world(folder)
    args.wait = 60
    local second, told
    local outcome = folder:start("app.lua", { args = args, started = function(handle)
      task.spawn(function()
        repeat timer.sleep(0.01) until folder:read("world"):find("two")
        task.spawn(function() timer.sleep(0.3); handle.stop() end)
        second = folder:start("app.lua", { args = with_world(folder), lock_wait = 30,
          waiting = function(text) told = text end })
      end)
    end })
    assert.equal("stopped", outcome.status)
    repeat timer.sleep(0.01) until second
    assert.equal("done", second.status, second.error and second.error.message)
    assert.matches("works on app", told)
  end)

  it("refuses the writes of an owner that wakes up after another took its run over", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", three_steps)
    local args = with_world(folder)
    args.wait = 3
    local child <close> = assert(proc.start { argv = { "/bin/sh", "-c",
      folder:spawn("app.lua", args, { lease = 1 }) } })
    repeat timer.sleep(0.01) until folder:read("world"):find("two")
    child:kill "STOP"
    local id
    do
      local kept <close> = store.open(folder.dir)
      local row = kept:runs()[1]
      id = row.id
      assert.equal("running", kept:state_of(row))
      repeat timer.sleep(0.05) until kept:state_of(row) == "died" -- its lease ends
    end
    local outcome = folder:continue("resume", id)
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    child:kill "CONT"
    assert.equal("stopped\n", assert(child:wait()).out)
    assert.equal("one\ntwo\ntwo\nthree\n", folder:read("world"))
    local kept <close> = store.open(folder.dir)
    assert.equal("done", kept:run(id).status)
  end)
end)
