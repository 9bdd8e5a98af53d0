---`kiln up` in a folder of a project removes a local release that is kept longer than promised,
---and none whose time is not over.
local timer = require "rt.timer"
local stranger = require "spec.support.stranger"

describe("kiln up", function()
  local missing, user = stranger.lacking(), nil

  setup(function() user = not missing and stranger.new() end)
  teardown(function() if user then user:close() end end)

  local function deploy(version, keep)
    user:write_recipe(("keep = %d,"):format(keep))
    return (user:must("run", "app.lua", "--version", version))
  end

  local function up() return (select(2, user:must "up")) end

  it("removes the kept release when its time is over, and nothing before that", function()
    if missing then pending("NOT RUN: " .. missing) return end
    deploy("v1", 900)
    local front = deploy("v2", 900):match("app serves v2 on ([%d.]+)")
    local both = { "app-blue-1", "app-green-2" }
    local said = up()
    assert.matches("everything that ran when this host went down runs", said, 1, true)
    assert.same(both, user:machines(both))

    deploy("v3", 1) -- it retires v1, and keeps v2 for a second
    timer.sleep(1.1)
    local _, out = user:must "status"
    assert.matches("overdue since", out, 1, true)
    local third = { "app-blue-3" }
    said = up()
    assert.matches("release v2 was kept until [^\n]*: machine app%-green%-2 removed", said)
    assert.same(third, user:machines(third))
    assert.equal("v3", stranger.version_at(front))
    assert.equal(1, #user:releases())
    assert.matches("everything that ran", up(), 1, true)
  end)

  it("works outside of a project", function()
    if missing then pending("NOT RUN: " .. missing) return end
    user:checkout {}
    assert.matches("everything that ran", up(), 1, true)
  end)
end)
