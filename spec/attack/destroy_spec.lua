---A machine's root does what it can to stay: it is destroyed all the same, after a kill too.
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local site = require "spec.support.site"

local exe = "/proc/" .. proc.info().pid .. "/exe"

describe("destroying a machine", function()
  local missing = site.why_not()
  local s
  setup(function() if not missing then s = site.new() end end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  local function python(row, text) return s:run(row, "python3 - <<'END'\n" .. text .. "\nEND") end

  ---Runs a verb of the helper, killed after some seconds.
  local function cut_off(verb, name, seconds)
    return assert(proc.run {
      argv = { "timeout", "-s", "KILL", tostring(seconds), exe, "__machine", verb },
      stdin = ("dir\0%s\0name\0%s\0"):format(s.dir, name),
    })
  end

  local function group_of(name)
    return assert((assert(proc.run { argv = { "sh", "-c",
      "find /sys/fs/cgroup /run/kiln -maxdepth 3 -type d -path '*/kiln-*/" .. name .. "'" } }).out
      :match "[^\n]+"))
  end

  ---KILN_SPEC_DEPTH=60000 takes minutes, which the disk needs for them.
  on_machines("removes folders 6,000 deep, with 64 descriptors", function()
    local depth = proc.getenv "KILN_SPEC_DEPTH" or "6000"
    local row = s:create "deep"
    assert.equal("made\n", python(row, [[
import os
os.chdir("/root")
for i in range(]] .. depth .. [[):
  open("f", "w").close()
  os.mkdir("d")
  os.chdir("d")
print("made")]]))
    assert.equal("KILL", cut_off("destroy", "deep", 0.3).signal or "KILL")
    local _, err = machine.start { dir = s.dir, name = "deep" }
    assert.equal("not_found", err.kind)
    local done = assert(proc.run {
      argv = { "sh", "-c", "ulimit -n 64 -s 1024; exec \"$0\" __machine destroy", exe },
      stdin = ("dir\0%s\0name\0deep\0"):format(s.dir), timeout = 1200,
    })
    assert.equal("", done.out)
    assert.equal(0, done.code)
    assert.is_nil(fs.stat(s.dir .. "/machines/deep"))
  end)

  on_machines("lets a machine make only so many control groups, one within another", function()
    local row = s:create "groups"
    local made = python(row, [[
import os
os.chdir("/sys/fs/cgroup")
depth = 0
try:
  while depth < 5000:
    os.mkdir("g")
    os.chdir("g")
    depth += 1
except OSError as problem:
  print(depth < 32, problem.strerror)
os.chdir("/sys/fs/cgroup")
many = 0
try:
  while many < 5000:
    os.mkdir("m%d" % many)
    many += 1
except OSError as problem:
  print(many < 1000, problem.strerror)]])
    local refused = "True Resource temporarily unavailable\n"
    assert.equal(refused .. refused, made)
    assert.equal("running\n", s:run(row, "systemctl is-system-running --wait"))
  end)

  on_machines("removes 2,100 control groups one within another", function()
    local group = group_of "groups"
    local done = assert(proc.run { argv = { "python3", "-c", [[
import os, sys
os.chdir(sys.argv[1])
for limit in ("depth", "descendants"):
  open("cgroup.max." + limit, "w").write("max")
os.chdir("payload")
for i in range(2100):
  os.mkdir("g%d" % i)
  os.chdir("g%d" % i)]], group }, timeout = 120 })
    assert.equal("", done.err)
    assert(machine.destroy { dir = s.dir, name = "groups" })
    assert.is_nil(fs.stat(group))
    assert.is_nil(fs.stat(s.dir .. "/machines/groups"))
  end)

  on_machines("goes on where it was killed, and never starts what is half destroyed", function()
    for _, seconds in ipairs { 0.01, 0.03, 0.06, 0.1, 0.15 } do
      s:create "cut"
      cut_off("destroy", "cut", seconds)
      local row = s:row "cut" -- waits for nobody: the destroyer is dead
      if row then -- it was killed before it began
        assert.equal("running", row.state)
        assert(machine.destroy { dir = s.dir, name = "cut" })
      end
      assert.is_nil(fs.stat(s.dir .. "/machines/cut"))
      assert.equal("not_found", select(2, machine.start { dir = s.dir, name = "cut" }).kind)
    end
  end)

  on_machines("makes a machine of that name anew after a destroy that was killed", function()
    local row = s:create "again"
    s:run(row, "touch /root/before; sync")
    cut_off("destroy", "again", 0.05)
    if s:row "again" then assert(machine.destroy { dir = s.dir, name = "again" }) end
    assert.equal("new\n", s:run(s:create "again", "test -e /root/before || echo new"))
    assert(machine.destroy { dir = s.dir, name = "again" })
  end)

  it("leaves no core file of a helper that crashes", function()
    local dir = assert(fs.temp_dir())
    local done = assert(proc.run { argv = { "sh", "-c", [[
      cd "$1"
      ulimit -c unlimited
      mkfifo input
      "$2" __machine list <input >/dev/null 2>&1 &
      exec 3>input
      until grep -q __machine /proc/$!/cmdline; do :; done
      until grep -q "core file size  *1 " /proc/$!/limits; do :; done
      kill -ABRT $!
      wait $!
      echo $?
      ls | grep -v '^input$']], "sh", dir, exe }, timeout = 20 })
    assert.equal("134\n", done.out)
    assert(fs.remove(dir, { recursive = true }))
  end)
end)
