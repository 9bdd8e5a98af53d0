local fs = require "rt.fs"
local recipes = require "spec.support.recipes"

---Two tasks; the second decides, then the run fails until the file `open` is there.
local text = recipes.prelude .. [[
local scope = require "kiln.scope"
local function act(run, name, seconds)
  return op.call { name = name, class = "idempotent", perform = function()
    fs.touch(run.args.world, name)
    if seconds then fs.sleep(seconds) end
    return name
  end }
end
local function gate(run)
  op.call { name = "gate", class = "read", perform = function()
    if fs.read(run.args.world .. ".open") == "" then
      error({ kind = "stopped", message = "told to" }, 0)
    end
  end }
end
---Races.
function app.race(run)
  local winner, index = scope.race {
    function() return act(run, "slow", 5) end, function() return act(run, "fast") end,
  }
  gate(run)
  return { winner, index }
end
---Waits too long.
function app.within(run)
  local ok, err = pcall(scope.within, 0.05, function() return act(run, "long", 5) end)
  gate(run)
  return { ok and "in time" or err.kind }
end
---Fails beside another.
function app.all(run)
  local _, err = pcall(scope.all, {
    function() return act(run, "long", 5) end,
    function() act(run, "fast"); error({ kind = "exit", message = "the second" }, 0) end,
  })
  gate(run)
  return { err.kind }
end
return app
]]

describe("a task that decided", function()
  local folder, args
  before_each(function()
    folder = recipes.folder()
    folder:write("app.lua", text)
    args = { world = folder.dir .. "/world" }
  end)
  after_each(function() assert(fs.remove(folder.dir, { recursive = true })) end)

  for entry, wanted in pairs { race = { "fast", 2 }, within = { "timeout" }, all = { "exit" } } do
    it("decides again when the run is resumed: " .. entry, function()
      local first = folder:start("app.lua", { args = args, entry = entry })
      assert.equal("stopped", first.status, first.error and first.error.message)
      local before = folder:read("world")
      folder:write("world.open", "yes\n")
      local done = folder:continue("resume", first.run)
      assert.equal("done", done.status, done.error and done.error.message)
      assert.same(wanted, done.result)
      assert.equal(before, folder:read("world"))
    end)
  end
end)
