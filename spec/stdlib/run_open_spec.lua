local failure = require "kiln.cli.failure"
local fs = require "rt.fs"
local recipes = require "spec.support.recipes"

---Whatever is named in the file `broken` fails, "for good" or not; what happens is a line of the
---file `world`.
local text = recipes.prelude .. [[
local function act(run, name, spec)
  spec = spec or {}
  local failure, effect = spec.kind, spec.effect
  spec.kind, spec.effect = nil, nil
  spec.name, spec.class = name, spec.class or "idempotent"
  spec.perform = spec.perform or function(token)
    local failing = fs.read(run.args.world .. ".broken")
    if failing:find("<" .. name .. ">", 1, true) then
      local kind = failing:find "for good" and "invalid" or failure or "unreachable"
      fs.fail { kind = kind, message = name .. " did not work",
        effect = effect, cloud = failure == "auth" and "none" or nil }
    end
    fs.touch(run.args.world, name)
    return name
  end
  return op.call(spec)
end

---Swaps; both undos are tried.
function app.swap(run)
  return run:transaction(function(undo)
    act(run, "boot")
    undo("boot", function() act(run, "destroy") end)
    act(run, "move")
    undo("move", function() act(run, "move back") end, { always = true })
    act(run, "probe", { class = "read" })
    return "swapped"
  end)
end

---Fails, and undoes in two actions of two operations each.
function app.pair(run)
  return run:transaction(function(undo)
    for _, name in ipairs { "first", "second" } do
      act(run, name)
      undo(name, function()
        act(run, "stop " .. name)
        act(run, "destroy " .. name)
      end)
    end
    act(run, "probe", { class = "read" })
  end)
end

---Bakes, then goes on.
function app.bake(run)
  op.ensure(function()
    act(run, "build")
  end, function() act(run, "destroy") end)
  return act(run, "use")
end

---Gives the old release up.
function app.retire(run)
  run:transaction(function() act(run, "move") end)
  run:commit()
  act(run, "retire")
  return "retired"
end

---Reads, then changes, with a token.
function app.token(run)
  act(run, "look", { class = "read", kind = "auth" })
  act(run, "change", { kind = "auth" })
  return "changed"
end

---Makes what has a row in the ledger.
function app.create(run)
  local function make(token, name)
    run.store:ledger_intent { token = token, run = run.id, key = "", provider = "none",
      kind = "address", name = "app", service = run.service }
    if fs.read(run.args.world .. ".broken"):find("<" .. name .. ">", 1, true) then
      fs.fail { kind = "unreachable", effect = name == "refused" and "none" or "maybe",
        message = name }
    end
    fs.touch(run.args.world, name)
    run.store:ledger_live(token, "1", "{}")
    return name
  end
  return act(run, "create", { class = "adopt", ledger = true,
    perform = function(token) return make(token, run.args.wait == 1 and "refused" or "make") end,
    settle = function(token) return make(token, "found") end })
end
return app
]]

describe("a run whose world fails", function()
  local folder, args
  before_each(function()
    folder = recipes.folder()
    folder:write("app.lua", text)
    args = { world = folder.dir .. "/world" }
  end)
  after_each(function() assert(fs.remove(folder.dir, { recursive = true })) end)

  local function broken(names) folder:write("world.broken", names .. "\n") end
  local function world() return (folder:read("world"):gsub("\n$", ""):gsub("\n", ", ")) end
  local function start(entry) return folder:start("app.lua", { args = args, entry = entry }) end
  local function ended(status, exit, outcome)
    assert.equal(status, outcome.status, outcome.error and outcome.error.message)
    assert.equal(exit, outcome.exit)
    return outcome
  end

  local function intents(run)
    local kept <close> = require("kiln.store").open(folder.dir)
    return #kept:ledger { run = run, state = "intent" }
  end

  for how, status in pairs { resume = "rolled_back", abort = "aborted" } do
    it("stops when an undo fails, after the others, and " .. how .. " tries it again", function()
      broken "<probe> <destroy>"
      local outcome = ended("stopped", 4, start "swap")
      assert.matches("undoing 'boot' failed too: destroy did not work", outcome.error.message)
      assert.equal("boot, move, move back", world())
      ended("stopped", 4, folder:continue(how, outcome.run)) -- it fails again
      broken "<probe>"
      ended(status, status == "aborted" and 0 or 3, folder:continue(how, outcome.run))
      assert.equal("boot, move, move back, destroy", world())
    end)
  end

  it("leaves the machines there when traffic does not go back to the old ones", function()
    broken "<probe> <move back>"
    local outcome = ended("stopped", 4, start "swap")
    assert.equal("boot, move", world())
    broken "<probe>"
    ended("rolled_back", 3, folder:continue("resume", outcome.run))
    assert.equal("boot, move, move back, destroy", world())
  end)

  it("leaves them there too when traffic can't go back; an abort tries that again", function()
    broken "<probe> <move back> for good"
    local outcome = ended("failed", 1, start "swap")
    ended("failed", 1, folder:continue("abort", outcome.run))
    assert.equal("boot, move", world())
    broken "<probe>"
    ended("aborted", 0, folder:continue("abort", outcome.run))
    assert.equal("boot, move, move back, destroy", world())
  end)

  for how, status in pairs { resume = "rolled_back", abort = "aborted" } do
    it("goes on in the middle of an undo of several operations: " .. how, function()
      broken "<probe> <stop second>"
      local outcome = ended("stopped", 4, start "pair")
      assert.equal("first, second, stop first, destroy first", world())
      broken "<probe>"
      assert.equal(status, folder:continue(how, outcome.run).status)
      assert.equal("first, second, stop first, destroy first, stop second, destroy second", world())
    end)
  end

  it("is undone by an abort when its cleanup alone failed for good", function()
    broken "<destroy> for good"
    local outcome = ended("failed", 1, start "bake")
    ended("failed", 1, folder:continue("abort", outcome.run))
    broken ""
    ended("aborted", 0, folder:continue("abort", outcome.run))
    assert.equal("build, destroy", world())
  end)

  it("stops when a cleanup fails, and goes on from there", function()
    broken "<destroy>"
    local outcome = ended("stopped", 4, start "bake")
    broken ""
    assert.equal("use", ended("done", 0, folder:continue("resume", outcome.run)).result)
    assert.equal("build, destroy, use", world())
  end)

  it("stops when it fails after the point of no return, and only goes on", function()
    broken "<retire>"
    local outcome = ended("stopped", 4, start "retire")
    broken ""
    local late = ended("done", 0, folder:continue("abort", outcome.run))
    assert.equal("retired", late.result)
    local said = table.concat(failure.ending(late), "\n")
    assert.matches("too late to undo.*go back: kiln .*rollback", said)
    assert.equal("move, retire", world())
  end)

  it("ends with 7 when nobody lets it in, and stops when that is in the middle", function()
    broken "<look>"
    ended("failed", 7, start "token")
    broken "<change>"
    local outcome = ended("stopped", 4, start "token")
    broken ""
    ended("done", 0, folder:continue("resume", outcome.run))
    assert.equal("look, change", world())
  end)

  it("ends rolled back when it failed before it changed anything", function()
    folder:write("app.lua", (text:gsub('kind = "auth" }', '}')))
    broken "<look>"
    ended("rolled_back", 3, start "token")
  end)

  it("stops when nobody knows what a creation made, and settles that first", function()
    broken "<make>"
    local outcome = ended("stopped", 4, start "create")
    assert.equal(1, intents(outcome.run))
    broken ""
    assert.equal("found", ended("done", 0, folder:continue("resume", outcome.run)).result)
    assert.equal(0, intents(outcome.run))
  end)

  it("leaves nothing in the ledger of a creation that was refused", function()
    broken "<refused>"
    args.wait = 1
    assert.equal(0, intents(ended("rolled_back", 3, start "create").run))
  end)
end)
