---Local machines of an ordinary user: real ones, in a home and a control group of their own.
local fs = require "rt.fs"
local json = require "rt.json"
local local_site = require "spec.support.local_site"
local ordinary_user = require "spec.support.ordinary_user"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local missing = ordinary_user.why_not() or local_site.lacking()
if missing then
  pending("machines of an ordinary user: NOT RUN, " .. missing)
  return
end

describe("local machines of an ordinary user", function()
  local user
  setup(function() user = ordinary_user.new() end)
  teardown(function() user:close() end)

  local env = { KILN_PATH = tree, KILN_LOCAL_BASE = local_site.archives, NO_COLOR = "1" }

  local function kiln(words, without)
    return user:run({ "env", "-C", tree, exe, table.unpack(words) },
      { env = env, without = without })
  end

  it("go from an image to a moved address under load, and leave nothing", function()
    local done = kiln { "lua", "spec/providers/local_user/life.lua" }
    assert.equal("", done.err)
    assert.equal(0, done.code)
    local seen = json.decode(done.out)
    assert.same({}, seen.lacking)
    assert.equal("running\n 0 0 1\n0\n1\n", seen.builder)
    assert.equal(64, seen.digest)
    assert.equal("/srv/private\n/var/cache/apt\n33\n", seen.identity)
    assert.equal(0, seen.load.failed, seen.load.first_failure)
    assert.is_true(seen.load.requests > 50)
    assert.is_true(seen.load.versions.blue > 0 and seen.load.versions.green > 0)
    assert.equal("blue\n", seen.inside)
    assert.equal("reached\n", seen.later)
    assert.equal(0, seen.machines)
    assert.equal(0, seen.addresses)
    assert.same({}, seen.left)
    assert.equal("", user:traces())
  end)

  ---The doctor's line about one need, and the one below it.
  local function told(need, without)
    local done = kiln({ "doctor" }, without and { [without] = true } or {})
    local line, below = done.out:match("\n(%S+ " .. need .. " [^\n]*)\n([^\n]*)")
    return line or done.out .. done.err, below, done.code
  end

  it("are all right by the doctor where everything is granted", function()
    local done = kiln { "doctor" }
    assert.equal(0, done.code)
    assert.is_nil(done.out:find("✗", 1, true))
  end)

  it("need newuidmap: the doctor says so, and where it comes from", function()
    local line, below, code = told("ids", "newuidmap")
    assert.equal(1, code)
    assert.matches("^✗ ids", line)
    assert.matches("apt%-get install uidmap", below)
  end)

  it("need ids in /etc/subuid: the doctor says so, and how to grant them", function()
    local line, below = told("ids", "subids")
    assert.matches("^✗ ids", line)
    assert.matches("usermod %-%-add%-subuids .* " .. ordinary_user.name, below)
  end)

  it("need a control group: the doctor says so, and how to hand one over", function()
    local line, below = told("cgroup2", "cgroup")
    assert.matches("^✗ cgroup2", line)
    assert.matches("mkdir %-p .*chown", below)
  end)

  it("need /dev/net/tun: the doctor says so, and how to open it", function()
    local line, below = told("tun", "tun")
    assert.matches("^✗ tun", line)
    assert.matches("chmod 0666 /dev/net/tun", below)
  end)

  it("are refused in one message before anything starts", function()
    local done = kiln({ "lua", "spec/providers/local_user/asks.lua", "create" }, { cgroup = true })
    assert.equal("unsupported\n0\n", done.out)
    assert.matches("control group .*may not divide", done.err)
    assert.equal("", user:traces())
  end)
end)
