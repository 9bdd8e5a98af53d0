---A recipe of nested blocks, made from a number: which tasks there are, what they do, which one
---fails, how long a block may take. Whatever decides, every machine is destroyed in the end.
local op = require "kiln.op"
local scope = require "kiln.scope"
local world = require "kiln.spec_world"

local app = { name = "app" }

app.args = { version = { "the number", required = true } }

---Draws from 1 to `most`, the same for the same number (Lehmer, 1951).
local function dice(seed)
  return function(most)
    seed = seed * 48271 % 2147483647
    return seed % most + 1
  end
end

local deepest = 2 -- blocks within blocks

---Plans a block of tasks, or one machine that is visited.
local function plan(draw, depth, names)
  local kind = depth == 0 and 1 or depth == deepest and draw(3) + 2 or draw(5)
  if kind <= 2 then
    names.count = names.count + 1
    return { kind = "visit", name = "m" .. names.count, steps = draw(3), fails = draw(4) == 1,
      between = draw(3) == 1 and draw(40) }
  end
  local block = { kind = ({ [3] = "all", [4] = "race", [5] = "within" })[kind], seconds = draw(120),
    at_once = draw(3) }
  for index = 1, kind == 5 and 1 or draw(2) + 1 do block[index] = plan(draw, depth - 1, names) end
  return block
end

---Makes a machine, does a few things on it, waits between two of them, and destroys it.
local function visit(run, base, spec)
  world.pause()
  local one = run.cloud:machines { names = { spec.name }, image = base.id, tags = {} }[1]
  return op.ensure(function()
    one:ready {}
    for step = 1, spec.steps do one:run(("echo %s > /opt/app/%d"):format(spec.name, step)) end
    if spec.between then world.sleep(spec.between) end
    if spec.fails then error({ kind = "exit", message = "told to" }, 0) end
    return one:run("echo last > /opt/app/last").code
  end, function() one:destroy() end)
end

local function perform(run, base, spec)
  if spec.kind == "visit" then return visit(run, base, spec) end
  local bodies = {}
  for index, inner in ipairs(spec) do
    bodies[index] = function() return perform(run, base, inner) end
  end
  if spec.kind == "all" then return scope.all(bodies, { at_once = spec.at_once }) end
  if spec.kind == "race" then return scope.race(bodies) end
  return scope.within(spec.seconds, bodies[1])
end

---Runs the blocks; what fails in them is what they are for.
function app.deploy(run, args)
  local base = run.cloud:base "debian-12-x64"
  local tree = plan(dice(7919 * tonumber(args.version)), deepest, { count = 0 })
  local ok, err = pcall(perform, run, base, tree)
  if not ok and err.kind ~= "exit" and err.kind ~= "timeout" then error(err, 0) end
end

return app
