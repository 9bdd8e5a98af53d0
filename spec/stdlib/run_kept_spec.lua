local fs = require "rt.fs"
local recipes = require "spec.support.recipes"
local store = require "kiln.store"

---A bake in small: a builder, three commands, the second of which fails while `broken` is there.
local bake = recipes.prelude .. [[
local function act(run, name, class, opts)
  return op.call { name = name, class = class or "once", args = opts, perform = function(token)
    if opts and opts.needs and fs.read(opts.needs) == "broken\n" then
      fs.touch(run.args.world, name .. " failed")
      error({ kind = "exit", message = name .. " ended with status 1" }, 0)
    end
    fs.touch(run.args.world, name)
    if opts and opts.pause and fs.read(run.args.world .. ".state") == "broken\n" then
      fs.sleep(opts.pause)
    end
    return token
  end }
end

---Bakes.
function app.deploy(run, args)
  local builder = act(run, "create")
  return op.ensure(function()
    act(run, "install", "once", { text = "apt-get install\n  nginx" })
    local token = act(run, "enable", "once", { needs = args.world .. ".state" })
    act(run, "snapshot")
    return { builder, token }
  end, function() act(run, "destroy", "idempotent") end)
end

---Does two things at the same time, one of which fails.
function app.both(run, args)
  local scope = require "kiln.scope"
  return scope.all {
    function()
      act(run, "slow", "idempotent", { pause = 60 })
      return "slow"
    end,
    function() return act(run, "quick", "once", { needs = args.world .. ".state" }) and "quick" end,
  }
end

---Moves traffic, then fails.
function app.swap(run, args)
  return run:transaction(function(undo)
    act(run, "boot")
    undo("boot", function() act(run, "destroy", "idempotent") end)
    if fs.read(args.world .. ".traffic") ~= "" then
      act(run, "move")
      undo("move", function() act(run, "move back", "idempotent") end, { always = true })
    end
    act(run, "probe", "read", { needs = args.world .. ".state" })
    return "swapped"
  end)
end
return app
]]

describe("a run that failed", function()
  local folder, args

  before_each(function()
    folder = recipes.folder()
    folder:write("app.lua", bake)
    folder:write("world.state", "broken\n")
    args = { world = folder.dir .. "/world" }
  end)

  after_each(function() assert(fs.remove(folder.dir, { recursive = true })) end)

  local function world()
    return (folder:read("world"):gsub("\n$", ""):gsub("\n", ", "))
  end

  local function start(entry, on_error, opts)
    opts = opts or {}
    opts.args, opts.entry, opts.on_error = args, entry, on_error
    return folder:start("app.lua", opts)
  end

  local function status_of(id)
    local kept <close> = store.open(folder.dir)
    return kept:run(id).status
  end

  it("leaves nothing unless it is told to keep", function()
    local outcome = start "deploy"
    assert.equal("rolled_back", outcome.status)
    assert.equal(3, outcome.exit)
    assert.equal("create, install, enable failed, destroy", world())
  end)

  it("goes on at the failed step on the same machine when it was kept", function()
    local outcome = start("deploy", "keep")
    assert.equal("kept", outcome.status, outcome.error.message)
    assert.equal(4, outcome.exit)
    assert.equal("kept", status_of(outcome.run))
    assert.equal("create, install, enable failed", world())

    local again = folder:continue("resume", outcome.run) -- it still fails, and is still kept
    assert.equal("kept", again.status)
    assert.equal("create, install, enable failed, enable failed", world())

    folder:write("world.state", "mended\n")
    local done = folder:continue("resume", outcome.run)
    assert.equal("done", done.status, done.error and done.error.message)
    assert.equal("create, install, enable failed, enable failed, enable, snapshot, destroy",
      world())
    assert.is_true(done.result[1] ~= done.result[2])
  end)

  it("goes on in every task of a block that its failure had cancelled", function()
    local outcome = start("both", "keep")
    assert.equal("kept", outcome.status, outcome.error.message)
    folder:write("world.state", "mended\n")
    local done = folder:continue("resume", outcome.run)
    assert.equal("done", done.status, done.error and done.error.message)
    assert.same({ "slow", "quick" }, done.result)
    assert.equal("slow, quick failed, slow, quick", world())
  end)

  it("is undone by abort when it was kept", function()
    local outcome = start("deploy", "keep")
    local aborted = folder:continue("abort", outcome.run)
    assert.equal("aborted", aborted.status, aborted.error and aborted.error.message)
    assert.equal("create, install, enable failed, destroy", world())
  end)

  it("asks once where it was told to ask", function()
    local asked = 0
    local function ask(err)
      asked = asked + 1
      assert.matches("enable ended", err.message)
      return "keep"
    end
    local outcome = start("deploy", "ask", { ask = ask })
    assert.equal("kept", outcome.status)
    local again = folder:continue("resume", outcome.run, { ask = ask })
    assert.equal("kept", again.status)
    assert.equal(1, asked)
    assert.equal("rolled_back", start("deploy", "ask").status) -- nobody to ask
  end)

  it("takes traffic back also when the machines are kept, and cannot go on then", function()
    folder:write("world.traffic", "yes\n")
    local outcome = start("swap", "keep")
    assert.equal("failed", outcome.status)
    assert.is_true(outcome.error.kept)
    assert.equal("boot, move, probe failed, move back", world())
  end)

  it("goes on with edited files that ask for what was done already", function()
    local outcome = start("deploy", "keep")
    folder:write("app.lua", (bake:gsub('"snapshot"', '"freeze"')))
    folder:write("world.state", "mended\n")
    local done = folder:continue("resume", outcome.run, { edited = true })
    assert.equal("done", done.status, done.error and done.error.message)
    assert.equal("create, install, enable failed, enable, freeze, destroy", world())
  end)

  it("stops at the first difference of edited files, with nothing done or changed", function()
    local outcome = start("deploy", "keep")
    folder:write("app.lua", (bake:gsub("nginx", "caddy")))
    local stopped = folder:continue("resume", outcome.run, { edited = true })
    assert.equal("stopped", stopped.status)
    assert.equal("diverged", stopped.error.kind)
    assert.matches("'install' has other arguments", stopped.error.message, 1, true)
    assert.equal('text, line 2: journal "  nginx"\n              today   "  caddy"',
      stopped.error.output)
    assert.equal("create, install, enable failed", world())

    folder:write("world.state", "mended\n")
    local done = folder:continue("resume", outcome.run) -- the stored files are the old ones
    assert.equal("done", done.status, done.error and done.error.message)
  end)

  it("needs no recipe file to be undone", function()
    local outcome = start("swap", "keep")
    assert.equal("kept", outcome.status)
    assert(fs.remove(folder.dir .. "/app.lua"))
    local aborted = folder:continue("abort", outcome.run)
    assert.equal("aborted", aborted.status, aborted.error and aborted.error.message)
    assert.equal("boot, probe failed, destroy", world())
  end)
end)
