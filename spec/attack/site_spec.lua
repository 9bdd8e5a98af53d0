---What becomes of a site whose network was broken from outside: it is seen, named and repaired.
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"
local local_project = require "spec.support.local_project"
local local_site = require "spec.support.local_site"

local exe = assert(fs.realpath("/proc/self/exe"))

local recipe = [[
local app = { name = "site" }
function app.deploy(run)
  local base = run.cloud:base "debian-13"
  local box = run.cloud:machines({ names = { "site-1" }, image = base.id })[1]
  box:ready()
end
function app.again(run) run.cloud:base "debian-13" end
return app
]]

describe("a site's network that was broken", function()
  local missing = local_site.lacking()
  local project

  local function shell(text, ...)
    return assert(proc.run { argv = { "sh", "-c", text, ... }, timeout = 30 })
  end

  local function router()
    local fields = assert(fs.read(project.site .. "/router"))
    return fields:match("pid%z(%d+)%z")
  end

  local function link() return "kl-" .. assert(fs.read(project.site .. "/id")):match("^%x+") end

  ---The process that is the way out: the other one in the router's control group.
  local function way_out()
    local found = shell([[group=$(tail -n 1 /proc/$0/cgroup)
      for p in /proc/[0-9]*; do
        [ "$p" = /proc/$0 ] || [ "$(tail -n 1 $p/cgroup 2>/dev/null)" != "$group" ] || echo $p
      done]], router())
    return assert(found.out:match("%d+"), "no way out")
  end

  ---Asserts that all who look see the part broken, and that `repair` mends it.
  local function seen_and_repaired(part, repair)
    local doctor = project:kiln("doctor")
    assert.equal(1, doctor.code)
    assert.matches("✗ " .. part, doctor.out)
    assert.matches("network: " .. part .. ": .*repair it: kiln up", project:kiln("status").out)
    local done = project:kiln(table.unpack(repair))
    assert.equal(0, done.code, done.err)
    assert.matches("the machines' network was broken %([%w ,-]*" .. part .. ".*%): repaired",
      done.out .. done.err)
    assert.not_matches("✗", project:kiln("doctor").out)
    assert.equal("site-1\n", project:kiln("ssh", "site-1", "hostname").out)
  end

  setup(function()
    if missing then return end
    project = local_project.make("broken", { ["app.lua"] = recipe })
    local done = project:kiln("run", "app.lua", "deploy")
    assert(done.code == 0, done.err)
  end)

  teardown(function() if project then project:close() end end)

  it("is repaired by the next ssh, up or run, whatever was broken", function()
    if missing then return pending(missing) end
    shell("kill -9 $0", router())
    seen_and_repaired("router", { "ssh", "site-1", "true" })
    shell("ip link del $0", link())
    seen_and_repaired("cable", { "run", "app.lua", "again" })
    shell("nsenter -t $0 -n nft flush ruleset", router())
    seen_and_repaired("addresses", { "up" })
    shell("kill -9 $0", way_out())
    seen_and_repaired("way out", { "up" })
    local up = project:kiln("up")
    assert.equal(0, up.code)
    assert.matches("its network is whole", up.out)
  end)

  it("loses no connection that lives when only the way out is made again", function()
    if missing then return pending(missing) end
    local live <close> = assert(proc.start {
      argv = { exe, "ssh", "site-1",
        "echo begun; until [ -e /go ]; do sleep 0.1; done; echo still" },
      cwd = project.dir, env = project.env, timeout = 60,
    })
    assert.equal("begun", live:read_line())
    shell("kill -9 $0", way_out())
    assert.equal(0, project:kiln("up").code)
    assert.equal(0, project:kiln("ssh", "site-1", "touch /go").code)
    assert.equal("still", live:read_line())
    assert.equal(0, live:wait().code)
  end)

  it("sends nothing for its machines by another way while it is repaired", function()
    if missing then return pending(missing) end
    local monitor <close> = assert(proc.start {
      argv = { "ip", "-o", "monitor", "route" }, timeout = 60,
    })
    local net = project:kiln("ssh", "site-1", "hostname -I").out:match("10%.199%.%d+")
    shell("kill -9 $0", router())
    assert.equal(0, project:kiln("up").code)
    monitor:kill("INT")
    local lost, made = 0, 0
    for line in function() return (monitor:read_line()) end do
      if line:find(net .. ".0/24 via", 1, true) then made = made + 1 end
      if line:find("Deleted unreachable " .. net .. ".0/24", 1, true) then lost = lost + 1 end
    end
    assert.is_true(made > 0)
    assert.equal(0, lost)
    assert.equal("site-1\n", project:kiln("ssh", "site-1", "hostname").out)
  end)

  it("sends nothing for its machines by another way, and ssh does not hang", function()
    if missing then return pending(missing) end
    local address = project:kiln("ssh", "site-1", "hostname -I").out:match("[%d.]+")
    shell("ip link del $0", link())
    local route = shell("ip route get $0 2>&1", address)
    assert.matches("No route to host", route.out)
    local started = timer.now()
    assert.equal("site-1\n", project:kiln("ssh", "site-1", "hostname").out)
    assert.is_true(timer.now() - started < 20)
  end)
end)
