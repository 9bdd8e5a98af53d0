---Removing kiln from a host: by its command, and as the purge of the package does it.
local fs = require "rt.fs"
local proc = require "rt.proc"
local local_project = require "spec.support.local_project"
local local_site = require "spec.support.local_site"

local recipe = [[
local app = { name = "gone" }
function app.deploy(run)
  local base = run.cloud:base "debian-13"
  local box = run.cloud:machines({ names = { "gone-1" }, image = base.id })[1]
  box:ready()
end
return app
]]

---What of the host could still be the site's: links, routes, control groups, processes.
---(A free block of addresses may be another site's already: its networks have a way. An ended
---process whose parent did not ask for it yet has a group "(deleted)".)
local function traces(site, tag, block)
  local done = assert(proc.run { argv = { "sh", "-c", [[
    ip -o link show "kl-$1" 2>/dev/null
    ip route | awk -v a="10.199.$(($2 + 2)).0/24" -v b="10.199.$(($2 + 3)).0/24" '
      $2 == a || $2 == b { refused[$2] = 1 }
      $2 == "via" { led[$1] = 1 }
      END { for (net in refused) if (!(net in led)) print "unreachable " net }'
    find /sys/fs/cgroup /run/kiln/cgroup -name "kiln-$1" 2>/dev/null
    grep -lsE "/kiln-$1(/[^ ]*)?$" /proc/[0-9]*/cgroup
    ls -d "$0" 2>/dev/null]], site, tag, block }, timeout = 30 })
  return done.out
end

describe("a host that had local machines", function()
  local missing = local_site.lacking()

  ---Deploys in a project of its own; gives it, and what its traces are found by.
  local function deployed(name)
    local project = local_project.make(name, { ["app.lua"] = recipe })
    local done = project:kiln("run", "app.lua")
    assert.equal(0, done.code, done.err)
    local tag = assert(fs.read(project.site .. "/id")):match("^%x+")
    local block = assert(fs.read(project.site .. "/router")):match("block%z(%d+)")
    assert.not_equal("", traces(project.site, tag, block))
    return project, tag, block
  end

  it("has nothing of them after `kiln uninstall`, which asks first", function()
    if missing then return pending(missing) end
    local project, tag, block = deployed "uninstall"
    local asked = project:kiln("uninstall", "--no-input")
    assert.equal(64, asked.code)
    assert.matches("1 machines and the folder .* confirm it with %-%-yes", asked.err)
    assert.equal("gone-1\n", project:kiln("ssh", "gone-1", "hostname").out)
    local done = project:kiln("uninstall", "--yes")
    assert.equal(0, done.code, done.err)
    assert.equal("", traces(project.site, tag, block))
    assert(fs.remove(project.dir, { recursive = true }))
  end)

  it("has nothing of them after the package's purge, when kiln is gone already", function()
    if missing then return pending(missing) end
    local project, tag, block = deployed "purge"
    local done = assert(proc.run { argv = { "sh", "runtime/package/postrm.sh", "remove" },
      env = { KILN_SITE = project.site }, timeout = 60 })
    assert.equal(0, done.code, done.err)
    assert.equal("gone-1\n", project:kiln("ssh", "gone-1", "hostname").out)
    done = assert(proc.run { argv = { "sh", "runtime/package/postrm.sh", "purge" },
      env = { KILN_SITE = project.site }, timeout = 60 })
    assert.equal(0, done.code, done.err)
    assert.equal("", traces(project.site, tag, block))
    assert(fs.remove(project.dir, { recursive = true }))
  end)
end)
