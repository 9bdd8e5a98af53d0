---Commands that print much, and the state that old runs leave.
local fs = require "rt.fs"
local local_project = require "spec.support.local_project"
local local_site = require "spec.support.local_site"

local recipe = [[
local app = { name = "noisy" }

---Prints 20 MB on a machine, without and with much repetition.
function app.deploy(run)
  local base = run.cloud:base "debian-13"
  local box = run.cloud:machines({ names = { "noisy-1" }, image = base.id })[1]
  box:ready()
  local noise = box:run "echo begin; base64 -w 900 /dev/urandom | head -c 20000000; echo; echo end"
  local few = box:run "seq 1000"
  box:destroy()
  assert(noise.truncated and not few.truncated)
  return ("%d bytes, then %s"):format(#noise.out, noise.out:match("[^\n]*\n$"))
end

---Does nothing that lasts.
function app.nothing(run) run:note(run.id) end

return app
]]

describe("a run whose command prints 20 MB", function()
  local missing = local_site.lacking()
  local project

  setup(function()
    project = not missing and local_project.make("output", { ["app.lua"] = recipe })
  end)
  teardown(function() if project then project:close() end end)

  local function size() return fs.stat(project.dir .. "/.kiln/state.db").size end

  it("says what is kept of it, and keeps no more", function()
    if missing then return pending(missing) end
    local done = project:kiln("run", "app.lua", "deploy")
    assert.equal(0, done.code, done.err)
    assert.matches("1048576 bytes, then end", done.err, 1, true)
    assert.matches("noisy%-1 +printed 20%.%d MB: its result has the end, the log the first and "
      .. "the last MiB", done.err)
    assert.is_true(size() < 5 * 1024 * 1024, size())

    local id = project:kiln("runs").out:match("^%x+")
    local log = project:kiln("log", id).out
    assert.matches("\n      begin\n", log, 1, true)
    assert.matches("\n      … %d+ lines, 17%.%d MB, are not kept …\n", log)
    assert.matches("\n      end\n", log, 1, true)
    assert.matches("\n      1\n      2\n      3\n", log, 1, true)
    assert.matches("\n      1000\n", log, 1, true)
  end)

  it("is forgotten by `kiln runs prune`, which shows first what it would forget", function()
    if missing then return pending(missing) end
    for _ = 1, 3 do assert.equal(0, project:kiln("run", "app.lua", "nothing").code) end
    local before = size()
    local shown = project:kiln("runs", "prune", "--keep", "2")
    assert.matches("noisy +deploy +done", shown.out)
    assert.matches("2 runs, %d%.%d MB; forget them: kiln runs prune %-%-yes", shown.out)
    assert.matches("noisy +deploy", project:kiln("runs").out)
    assert.equal(64, project:kiln("runs", "prune", "--older", "soon").code)
    assert.matches("no run can be forgotten",
      project:kiln("runs", "prune", "--keep", "0", "--older", "1h", "--yes").out)

    local done = project:kiln("runs", "prune", "--keep", "2", "--yes")
    assert.matches("2 runs, %d%.%d MB, are forgotten", done.out)
    assert.not_matches("deploy", project:kiln("runs").out)
    assert.is_true(size() < before / 5, ("%d, was %d"):format(size(), before))
  end)
end)
