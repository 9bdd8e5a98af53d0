---What a cancelled task undoes: the same in every life of the run, whatever its tasks wait for
---outside of operations meanwhile.
local fs = require "rt.fs"
local recipes = require "spec.support.recipes"

---The file `world.shut` stops the run at "unmake". In a life with the file `world.slow`, a task
---waits before its first operation, as for machines that start again or for a secret's command.
local text = recipes.prelude .. [[
local scope = require "kiln.scope"
local function there(run, name) return fs.read(run.args.world .. "." .. name) ~= "" end
local function act(run, name, seconds)
  return op.call { name = name, class = "idempotent", perform = function()
    if name == "unmake" and there(run, "shut") then
      fs.stop "told to"
    end
    fs.touch(run.args.world, name)
    if seconds then fs.sleep(seconds) end
    return name
  end }
end
local function gate(run)
  op.call { name = "gate", class = "read", perform = function()
    if there(run, "shut") then fs.stop "told to" end
  end }
end
---Makes something and keeps it while `body` runs.
local function with_machine(run, body)
  if there(run, "slow") then fs.sleep(0.2) end
  act(run, "make")
  return op.ensure(body, function() act(run, "unmake") end)
end
local function fail(run)
  act(run, "fast", 0.1)
  error({ kind = "exit", message = "the second" }, 0)
end
local function in_operation(run)
  return with_machine(run, function() act(run, "long", 5) end)
end
local function between(run)
  return with_machine(run, function() fs.sleep(5); act(run, "never") end)
end
---The first task is cancelled in an operation.
function app.all(run)
  pcall(scope.all, { function() in_operation(run) end, function() fail(run) end })
  gate(run)
end
---The first task is cancelled in a wait between two operations.
function app.between(run)
  pcall(scope.all, { function() between(run) end, function() fail(run) end })
  gate(run)
end
---Its cleanup begins with a block.
function app.block(run)
  pcall(scope.all, { function()
    act(run, "make")
    op.ensure(function()
      fs.sleep(5)
      scope.all { function() act(run, "never") end }
    end, function() scope.all { function() act(run, "unmake") end } end)
  end, function() fail(run) end })
  gate(run)
end
---A race has another winner.
function app.race(run)
  scope.race { function() in_operation(run) end, function() act(run, "fast", 0.1) end }
  gate(run)
end
---The time is over.
function app.within(run)
  pcall(scope.within, 0.1, function() between(run) end)
  gate(run)
end
---A block within the block: both of its tasks are cancelled from outside.
function app.nested(run)
  pcall(scope.all, {
    function()
      scope.all { function() between(run) end, function() act(run, "beside", 5) end }
    end,
    function() fail(run) end,
  })
  gate(run)
end
---A clock within the block is cancelled from outside: that is not its time being over.
function app.clock(run)
  pcall(scope.all, {
    function()
      local ok, err = pcall(scope.within, 50, function() between(run) end)
      if not ok and err.kind == "timeout" then act(run, "believed the clock") end
      if not ok then error(err, 0) end
    end,
    function() fail(run) end,
  })
  gate(run)
end
---The task has cleaned up once before it is cancelled.
function app.twice(run)
  pcall(scope.all, {
    function()
      op.ensure(function() act(run, "build") end, function() act(run, "clean", 0.3) end)
      between(run)
    end,
    function() fail(run) end,
  })
end
---Runs until it is stopped from outside.
function app.stopped(run)
  scope.all {
    function() in_operation(run) end,
    function() act(run, "unmake"); act(run, "never") end,
  }
end
return app
]]

describe("a task that is cancelled", function()
  local folder, args
  before_each(function()
    folder = recipes.folder()
    folder:write("app.lua", text)
    args = { world = folder.dir .. "/world" }
  end)
  after_each(function() assert(fs.remove(folder.dir, { recursive = true })) end)

  local function count(name)
    local _, found = ("\n" .. folder:read "world"):gsub("%f[^\n]" .. name .. "\n", "")
    return found
  end

  local function switch(name, on) folder:write("world." .. name, on and "yes" or "") end

  ---A life that must stop at "unmake", then one that waits, then one that may do it.
  local function live(entry, how)
    switch("shut", true)
    local first = folder:start("app.lua", { args = args, entry = entry })
    assert.equal("stopped", first.status, first.error and first.error.message)
    switch("slow", true)
    local second = folder:continue(how, first.run)
    assert.equal("stopped", second.status, second.error and second.error.message)
    assert.equal("told to", second.error.message)
    switch("shut", false)
    return folder:continue(how, first.run)
  end

  local entries = { "all", "between", "block", "race", "within", "nested", "clock" }
  for _, entry in ipairs(entries) do
    for how in pairs { resume = true, abort = true } do
      it(("undoes what it did, in every life: %s, %s"):format(entry, how), function()
        local last = live(entry, how)
        local wanted = how == "resume" and "done" or "aborted"
        assert.equal(wanted, last.status, last.error and last.error.message)
        for name, times in pairs { make = 1, unmake = 1, never = 0, ["believed the clock"] = 0 } do
          assert.equal(times, count(name), name .. " in " .. folder:read "world")
        end
      end)
    end
  end

  it("undoes it too when what it is cancelled for is the abort", function()
    local last = live("stopped", "abort")
    assert.equal("aborted", last.status, last.error and last.error.message)
    assert.equal(1, count "make")
    assert.equal(1, count "unmake")
  end)

  it("ends what it cleans up before that takes effect, in every life", function()
    switch("slow", true) -- the second task fails while the first one cleans up its first thing
    local first = folder:start("app.lua", { args = args, entry = "twice" })
    assert.equal("done", first.status, first.error and first.error.message)
    assert.equal(0, count "make")
    assert.equal(1, count "clean")
  end)
end)
