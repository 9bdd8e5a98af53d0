---A colleague's fresh checkout, with the recipe and `kiln.project` from version control and without
---the state folder `.kiln`: it cannot take the running service over, and goes on after adopting it.
local fs = require "rt.fs"
local json = require "rt.json"
local stranger = require "spec.support.stranger"

describe("a fresh checkout", function()
  local user, first, ip
  local missing = stranger.lacking()

  local function on_machines(name, body)
    it(name, function()
      if missing then pending("NOT RUN: " .. missing) return end
      body()
    end)
  end

  setup(function()
    if missing then return end
    user = stranger.new { cloud = "digitalocean" }
    user:write_recipe()
    first = user:must("run", "app.lua", "--version", "v1")
    ip = first:match("app serves v1 on ([%d.]+)")
    user:checkout { "app.lua", "kiln.project" }
  end)

  teardown(function()
    if not missing then user:close() end
  end)

  on_machines("was told once to commit the project's id", function()
    local _, count = first:gsub("kiln.project is new: commit it", "")
    assert.equal(1, count)
    assert.matches("\nid = %x+\n$", fs.read(user.dir .. "/kiln.project"))
  end)

  on_machines("does not take the running service over, and says where it came from", function()
    local done = user:kiln("run", "app.lua", "--version", "v2")
    assert.equal(1, done.code, done.err)
    assert.matches("address app leads to app%-blue%-1, which belongs to this project, "
      .. "environment default, service app, run %x%x%x%x; nothing was changed: it was put into "
      .. "service from another checkout", done.err)
    assert.matches("kiln gc %-%-adopt", done.err)
    assert.equal("v1", stranger.version_at(ip))
    assert.same({ "app-blue-1" }, user:machines { "app-blue-1" })
    assert.is_nil(done.err:find("kiln.project is new", 1, true))
  end)

  on_machines("shows what is in service as its project's, and removes none of it", function()
    local _, out = user:must("gc", "--json", "--cloud", "digitalocean")
    local found = json.decode(out)
    local lost = {}
    for index, row in ipairs(found.lost) do lost[index] = row.kind end
    assert.same({ "machine", "image", "address" }, lost)
    for _, row in ipairs(found.garbage) do assert.not_equal("machine", row.kind) end
  end)

  on_machines("adopts the service; gc leaves that alone, and a release replaces it", function()
    local _, out = user:must("gc", "--adopt")
    assert.matches("app (default): v1 serves on app-blue-1 behind address app", out, 1, true)
    local _, removed = user:must("gc", "--yes")
    assert.is_nil(removed:find("app-blue-1", 1, true))
    assert.equal("v1", stranger.version_at(ip))
    local said = user:must("run", "app.lua", "--version", "v2")
    assert.matches("drain app%-blue%-1 +kiln cannot log in to count: waited 2 s", said)
    assert.equal("v2", stranger.version_at(ip))
  end)

  on_machines("rolls back to an adopted release", function()
    user:must("rollback", "app")
    assert.equal("v1", stranger.version_at(ip))
  end)

  on_machines("of another project is refused the front, and gc lists nothing of it", function()
    user:checkout { "app.lua" }
    local done = user:kiln("run", "app.lua", "--version", "v2")
    assert.equal(3, done.code, done.err)
    assert.matches("which belongs to project %x+, environment default", done.err)
    assert.matches("must not take another project's", done.err, 1, true)
    assert.equal("v1", stranger.version_at(ip))
    local _, out = user:must("gc", "--json", "--cloud", "digitalocean")
    local found = json.decode(out)
    assert.same({}, found.lost)
    assert.same({}, found.unlabelled)
    for _, row in ipairs(found.garbage) do assert.not_equal("machine", row.kind) end
  end)
end)

describe("the file kiln.project", function()
  local user

  before_each(function()
    user = stranger.new()
    user:write("app.lua", [[
      local app = { name = "app" }
      function app.deploy(run) return { summary = "fine" } end
      return app]])
  end)

  after_each(function() user:close() end)

  it("is not made by a run that makes nothing", function()
    user:must("run", "app.lua")
    assert.is_nil(fs.stat(user.dir .. "/kiln.project"))
  end)

  it("is refused when it holds no id", function()
    user:write("kiln.project", "<<<<<<< HEAD\n")
    local done = user:kiln("run", "app.lua")
    assert.equal(64, done.code, done.err)
    assert.matches("kiln.project holds no project's id", done.err, 1, true)
  end)
end)
