---A run whose course is decided by which of several tasks comes first, killed everywhere too.
local op = require "kiln.op"
local scope = require "kiln.scope"
local world = require "kiln.spec_world"

local app = { name = "app" }

app.args = { version = { "as the other recipe", required = true } }

---Makes a machine, does a few things on it, and destroys it. A later life of the run waits first,
---outside of any operation, as for a secret's command.
local function visit(run, base, name, steps, last)
  world.pause()
  local one = run.cloud:machines { names = { name }, image = base.id, tags = {} }[1]
  return op.ensure(function()
    one:ready {}
    for step = 1, steps do one:run(("echo %s > /opt/app/%d"):format(name, step)) end
    return last and last() or name
  end, function() one:destroy() end)
end

local function fail()
  error({ kind = "exit", message = "told to" }, 0)
end

local function wait()
  return op.call { name = "wait", class = "read", perform = function() world.sleep(900) end }
end

---Lets tasks decide: the first of several, one of them a block of its own; the first that fails of
---more than may run at the same time; a clock.
function app.deploy(run)
  local base = run.cloud:base "debian-12-x64"
  scope.race {
    function() return visit(run, base, "slow", 4) end,
    function() return visit(run, base, "fast", 1) end,
    function()
      return scope.all { function() return visit(run, base, "inner-1", 2) end, wait }
    end,
  }
  local ok, err = pcall(scope.all, {
    function() return visit(run, base, "first", 1) end,
    function() return visit(run, base, "second", 2, fail) end,
    function() return visit(run, base, "third", 2) end,
    function() return visit(run, base, "fourth", 1) end,
  }, { at_once = 2 })
  if ok or err.kind ~= "exit" then error(err, 0) end
  ok, err = pcall(scope.within, 100, function()
    return visit(run, base, "late", 1, function()
      return scope.race { wait, function() return visit(run, base, "inner-2", 1, wait) end }
    end)
  end)
  if ok or err.kind ~= "timeout" then error(err, 0) end
  return run:transaction(function(undo)
    local one = run.cloud:machines { names = { "last" }, image = base.id, tags = {} }[1]
    undo("last", function() one:destroy() end)
    one:ready {}
    return one.name
  end)
end

return app
