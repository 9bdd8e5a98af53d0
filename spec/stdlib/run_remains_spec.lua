---What the end of a run says is what the ledger has: nothing is called undone while it stands.
local failure = require "kiln.cli.failure"
local fs = require "rt.fs"
local recipes = require "spec.support.recipes"

---A transaction whose undo succeeds and removes nothing; `kind` names what was made, `state`
---whether the ledger knows that it is there.
local text = recipes.prelude .. [[
app.args.kind = { "what is made", required = true }
app.args.state = { "live, intent or gone", required = true }
local function make(run)
  op.call { name = "make", class = "adopt", ledger = true, perform = function(token)
    run.store:ledger_intent { token = token, run = run.id, key = "", provider = "none",
      kind = run.args.kind, name = "app-1", service = run.service }
    if run.args.state ~= "intent" then run.store:ledger_live(token, "1", "{}") end
    if run.args.state == "gone" then run.store:ledger_gone(token) end
    return true
  end }
end
local function act(name, perform)
  op.call { name = name, class = "idempotent", perform = perform or function() return true end }
end
---Fails and undoes.
function app.fail(run)
  run:transaction(function(undo)
    make(run)
    undo("make", function() act "unmake" end)
    act("probe", function() error({ kind = "unhealthy", message = "no answer" }, 0) end)
  end, { undone = "app still serves v1" })
end
---Stops in the middle.
function app.stop(run)
  run:transaction(function(undo)
    make(run)
    undo("make", function() act "unmake" end)
    act("wait", function() fs.stop "told to" end)
  end)
end
return app
]]

describe("the end of a run", function()
  local folder
  before_each(function()
    folder = recipes.folder()
    folder:write("app.lua", text)
  end)
  after_each(function() assert(fs.remove(folder.dir, { recursive = true })) end)

  local function start(entry, kind, state)
    return folder:start("app.lua", { entry = entry,
      args = { world = folder.dir .. "/world", kind = kind, state = state } })
  end

  local ends = {
    fail = { clean = { "rolled_back", 3 }, start = start },
    stop = { clean = { "aborted", 0 }, start = function(...)
      local first = start(...)
      assert.equal("stopped", first.status, first.error and first.error.message)
      return folder:continue("abort", first.run)
    end },
  }
  for entry, how in pairs(ends) do
    local function ended(kind, state)
      local outcome = how.start(entry, kind, state)
      return outcome, table.concat(failure.ending(outcome), "\n")
    end

    it("says that all is undone when the ledger says so: " .. entry, function()
      local outcome, said = ended("machine", "gone")
      assert.same(how.clean, { outcome.status, outcome.exit })
      assert.matches("undone", said)
      assert.not_matches("there", said)
    end)

    it("names a machine that is still there, and fails: " .. entry, function()
      local outcome, said = ended("machine", "live")
      assert.same({ "failed", 1 }, { outcome.status, outcome.exit })
      assert.matches("not all that it made is gone", said, 1, true)
      assert.matches("still there: machine app-1 (none)", said, 1, true)
      assert.not_matches("undone", said)
    end)

    it("names what nobody knows the end of, and fails: " .. entry, function()
      local outcome, said = ended("address", "intent")
      assert.same({ "failed", 1 }, { outcome.status, outcome.exit })
      assert.matches("may be there, `kiln gc` looks: address app-1 (none)", said, 1, true)
    end)

    it("names what outlives releases: " .. entry, function()
      local outcome, said = ended("image", "live")
      assert.same(how.clean, { outcome.status, outcome.exit })
      assert.matches("stays for later runs: image app-1 (none)", said, 1, true)
    end)
  end
end)
