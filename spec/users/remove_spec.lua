---`remove` beside what other runs left: it is done when nothing of the service is left, and names
---what is. On a simulated account whose droplets are rows.
local fs = require "rt.fs"
local rt_http = require "rt.http"
local stranger = require "spec.support.stranger"

local recipe = [=[
local remove = require "recipes.remove"

local app = { name = "app" }

local function machine(run, name)
  return run.cloud:machines {
    names = { name }, image = run.cloud:base("debian-12-x64").id, tags = {},
  }[1]
end

---Makes an address and a machine that no release has.
function app.make(run)
  run.cloud:address()
  machine(run, "app-1")
end

---Makes a machine and fails.
function app.fail(run)
  machine(run, "app-2")
  run:step { name = "break", perform = function() run.cloud:api("GET", "/nothing") end }
end

function app.remove(run)
  return remove(run, { images = true })
end

return app
]=]

describe("remove", function()
  local user

  before_each(function()
    user = stranger.new { cloud = "digitalocean", machines = "none" }
    user:write("app.lua", recipe)
  end)

  after_each(function() user:close() end)

  local function remove_ends(how, code)
    local done = user:kiln(table.unpack(how))
    assert.equal(code, done.code, done.err)
    return done.err
  end

  local function addresses()
    return #user.sim:call("GET", "/v2/reserved_ips").reserved_ips
  end

  it("names a machine that no release has, and is done when gc has removed it", function()
    user:must("run", "app.lua", "make")
    local said = remove_ends({ "run", "app.lua", "remove" }, 4)
    assert.matches("address app +released", said)
    assert.equal(0, addresses())
    assert.matches("app is out of service, but not all of it is gone: machine app-1 (digitalocean) "
      .. "is still there, `kiln gc --yes` removes it", said, 1, true)
    local run = said:match("kiln resume (%x+)")
    user:must("gc", "--yes")
    assert.matches("done in [%d.]+s · app is gone", user:must("resume", run))
    assert.same({}, user:machines {})
    assert.matches("app is gone", user:must("run", "app.lua", "remove"))
  end)

  it("names the run that a machine belongs to, and is done when that one is aborted", function()
    assert.equal(4, user:kiln("run", "app.lua", "fail", "--on-error", "keep").code)
    local said = remove_ends({ "run", "app.lua", "remove" }, 4)
    local maker = said:match("machine app%-2 %(digitalocean%) is still there, it is of run (%x+) "
      .. "%(kept%), which `kiln abort")
    assert.is_truthy(maker, said)
    user:kiln("abort", maker)
    user:must("gc", "--yes")
    assert.matches("app is gone", user:must("resume", (said:match("kiln resume (%x+)"))))
    assert.same({}, user:machines {})
  end)
end)

describe("remove that the cloud refuses", function()
  local user, faults

  before_each(function()
    faults = assert(fs.temp_dir())
    assert(fs.write(faults .. "/faults.json", [=[
      [{ "kind": "status", "status": 403, "method": "DELETE", "path": "/v2/reserved_ips/*",
         "times": 2, "body": "{\"id\":\"forbidden\",\"message\":\"not now\"}" }] ]=]))
    user = stranger.new { cloud = "digitalocean", machines = "none",
      faults = faults .. "/faults.json" }
    user:write("app.lua", (recipe:gsub('machine%(run, "app%-1"%)', "")))
  end)

  after_each(function()
    user:close()
    assert(fs.remove(faults, { recursive = true }))
  end)

  it("stops and goes on; an abort does not call it undone", function()
    user:must("run", "app.lua", "make")
    local done = user:kiln("run", "app.lua", "remove")
    assert.equal(4, done.code, done.err)
    assert.matches("403 not now", done.err, 1, true)
    local run = done.err:match("kiln resume (%x+)")
    done = user:kiln("abort", run)
    assert.equal(4, done.code, done.err)
    assert.not_matches("undone", done.err)
    local said = user:must("abort", run)
    assert.matches("too late to undo: what is removed does not come back, so the run went on", said,
      1, true)
    assert.equal(0, #user.sim:call("GET", "/v2/reserved_ips").reserved_ips)
    rt_http.forget()
  end)
end)
