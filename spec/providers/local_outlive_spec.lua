---Commands on a real machine that outlive kiln, and one that does not outlive its machine.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
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
end)
