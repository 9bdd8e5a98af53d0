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
      fs.stop "told to"
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
---Fails while another one cleans up.
function app.cleaning(run)
  pcall(scope.all, {
    function() op.ensure(function() act(run, "make") end, function() act(run, "clean", 0.3) end)
      act(run, "go on") end,
    function() act(run, "fast", 0.1); error({ kind = "exit", message = "the second" }, 0) end,
  })
  gate(run)
  return fs.read(run.args.world):gsub("\n", " ")
end
---Has a fault of its own in one of two tasks.
function app.faulty(run)
  return scope.all({ "one", "two", "three" }, function(name)
    act(run, name)
    if name == "two" then return "mended" and nothing.there end
    local first = fs.read(run.args.world .. ".open") == ""
    return act(run, name .. " again", name == "one" and first and 5)
  end, { at_once = 2 })
end
---Undoes what a race did.
function app.undone(run)
  return run:transaction(function(undo)
    scope.race {
      function() return act(run, "slow", 5) end,
      function()
        local made = scope.all { function() return act(run, "fast") end }
        undo("fast", function() act(run, "undo fast") end)
        return made
      end,
    }
    gate(run)
  end)
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

  it("does not stop another one in the middle of cleaning up", function()
    local first = folder:start("app.lua", { args = args, entry = "cleaning" })
    assert.equal("stopped", first.status, first.error and first.error.message)
    folder:write("world.open", "yes\n")
    local done = folder:continue("resume", first.run)
    assert.equal("done", done.status, done.error and done.error.message)
    assert.equal("make fast clean ", (done.result:gsub("fast make", "make fast")))
  end)

  it("leaves its block to be undone when the run is aborted", function()
    local first = folder:start("app.lua", { args = args, entry = "undone" })
    local aborted = folder:continue("abort", first.run)
    assert.equal("aborted", aborted.status, aborted.error and aborted.error.message)
    assert.equal("slow fast undo fast", (folder:read("world"):gsub("\n", " "):gsub(" $", "")))
  end)

  describe("by a fault of the recipe", function()
    local kept
    before_each(function()
      kept = folder:start("app.lua", { args = args, entry = "faulty", on_error = "keep" })
      assert.equal("kept", kept.status, kept.error.message)
      folder:write("world.open", "yes\n")
    end)

    it("lets all of them go on when that is mended", function()
      folder:write("app.lua", (text:gsub(" and nothing.there", "")))
      local done = folder:continue("resume", kept.run, { edited = true })
      assert.equal("done", done.status, done.error and done.error.message)
      assert.same({ "one again", "mended", "three again" }, done.result)
    end)

    it("decides so again when it is not mended", function()
      local again = folder:continue("resume", kept.run)
      assert.equal("kept", again.status, again.error and again.error.message)
      assert.matches("nothing", again.error.message)
    end)
  end)

  it("must decide so again: edited files that do not fail there stop the run", function()
    local first = folder:start("app.lua", { args = args, entry = "all" })
    assert.equal("stopped", first.status)
    folder:write("app.lua", (text:gsub('error(%({ kind = "exit")', "tostring%1")))
    folder:write("world.open", "yes\n")
    local stopped = folder:continue("resume", first.run, { edited = true })
    assert.equal("diverged", stopped.error and stopped.error.kind, stopped.status)
    assert.matches("task 2 of the block failed then, and does not now", stopped.error.message)
  end)
end)
