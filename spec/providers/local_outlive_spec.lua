---What outlives kiln: commands on a machine, unless that is restarted; and machines, unless their
---host is. A restart of the host is made of what it does to a site: everything that runs there is
---killed, its control groups and its network are gone.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local store_ = require "kiln.store"
local local_site = require "spec.support.local_site"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())
local lacking = local_site.lacking()

local recipe = [[
local guest = { name = "guest" }
function guest.deploy(run)
  local base = run.cloud:base "debian-13"
  local box = run.cloud:machines { names = { "guest-1" }, image = base.id }[1]
  box:ready()
  box:run("echo run >>/root/runs; for i in $(seq 45); do echo line $i; sleep 0.05; done; exit 0")
  run:note("runs: " .. box:run("cat /root/runs").out)
  local _, err = pcall(box.run, box, "systemctl reboot; sleep 300", { name = "restart" })
  run:note("restart: " .. err.message)
  run:note("after: " .. box:run("echo is there").out)
  box:destroy()
end
function guest.keep(run)
  local image = run.cloud:base("debian-13").id
  local both = run.cloud:machines { names = { "guest-2", "guest-3" }, image = image }
  for _, box in ipairs(both) do box:ready() end
  both[1]:run "echo kept >/root/file; sync"
  both[2]:power_off()
  local front = run.cloud:address "guest"
  front:assign { both[1].id }
  return { summary = "front " .. front.ip }
end
function guest.look(run) run.cloud:address "guest" end
return guest
]]

describe("a command on a machine", function()
  if lacking then
    pending("no local machines here: " .. lacking)
    return
  end
  local site, dir, env

  setup(function()
    site, dir = local_site.make "guard", assert(fs.temp_dir())
    assert(fs.write(dir .. "/guest.lua", recipe))
    env = { KILN_PATH = tree, KILN_LOCAL_DIR = site, KILN_LOCAL_BASE = local_site.archives }
  end)
  teardown(function()
    local_site.remove(site)
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function options(...)
    return { argv = { exe, "-C", dir, ... }, env = env, timeout = 300 }
  end

  ---Ends kiln when it tells the line.
  local function killed_at(text)
    local child <close> = assert(proc.start(options("run", "guest.lua", "--json")))
    local id
    while true do
      local line = child:read_line()
      if not line then break end
      local event = json.decode(line)
      id = event.run
      if event.type == "line" and event.text == text then child:kill "KILL" end
    end
    assert.equal("KILL", assert(child:wait()).signal)
    return id
  end

  it("goes on when kiln is killed, is told once, and a restart in the middle is said", function()
    local id = killed_at "line 33"
    local done = assert(proc.run(options("resume", id)))
    assert.equal(0, done.code, done.err)
    local told, notes = {}, {}
    for text in assert(proc.run(options("log", id, "--json"))).out:gmatch("[^\n]+") do
      local event = json.decode(text)
      if event.type == "line" and event.text:find "^line" then told[#told + 1] = event.text end
      if event.type == "note" then notes[#notes + 1] = event.text end
    end
    local wanted = {}
    for number = 1, 45 do wanted[number] = "line " .. number end
    assert.same(wanted, told)
    assert.same({
      "runs: run\n",
      "restart: guest-1: 'restart' was cut off by a restart of the machine; whether it took effect "
        .. "is unknown",
      "after: is there\n",
    }, notes)
  end)

  ---What a restart of the host leaves of a site.
  local function restart_host()
    local done = assert(proc.run { argv = { "sh", "-c", [[
      for g in $(find /sys/fs/cgroup /run/kiln -maxdepth 3 -type d -name "kiln-$1" 2>/dev/null); do
        echo 1 >"$g/cgroup.kill"
        while grep -q "populated 1" "$g/cgroup.events"; do sleep 0.02; done
        find "$g" -depth -type d -exec rmdir {} +
      done]], "sh", fs.read(site .. "/id"):sub(1, 8) } })
    assert.equal("", done.err)
  end

  local function kiln(...) return assert(proc.run(options(...))) end
  local function up() return assert(proc.run { argv = { exe, "up" }, env = env }) end

  it("finds its machine again after a restart of the host", function()
    local done = kiln("run", "guest.lua", "keep")
    local front = assert(done.err:match("front ([%d.]+)"), done.err)
    do
      local store <close> = store_.open(dir)
      store:release_promote {
        run = "5bec", service = "guest", env = "default", version = "v1", image = "base",
        colour = "blue", kept_until = 0, data = json.encode {
          machines = { { id = "guest-2", name = "guest-2" } }, address = { ip = front },
        },
      }
    end
    local function status() return kiln("status").out:match("guest%-2.*") end
    assert.is_nil(status():find("off", 1, true))

    restart_host()
    assert.matches("off: kiln up", status(), 1, true)
    done = up()
    assert.equal("machine guest-2 was off since its host went down: started\n", done.out, done.err)
    assert.is_nil(status():find("off", 1, true))
    local deadline = timer.now() + 60
    local there = kiln("ssh", "guest-2", "cat", "/root/file")
    while there.code ~= 0 and timer.now() < deadline do -- it boots
      there = kiln("ssh", "guest-2", "cat", "/root/file")
    end
    assert.equal("kept\n", there.out, there.err)
    assert.equal("SSH-", assert(proc.run { argv = { "bash", "-c",
      "exec 3<>/dev/tcp/$1/22 && head -c 4 <&3", "bash", front } }).out)

    restart_host()
    done = kiln("run", "guest.lua", "look")
    assert.equal(0, done.code, done.err)
    assert.equal("machine guest-2 was off since its host went down: started\n", done.out)
    assert.matches("everything that ran when this host went down runs", up().out, 1, true)
  end)
end)
