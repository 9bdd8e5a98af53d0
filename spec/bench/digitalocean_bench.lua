---Kiln and packer on simulated DigitalOcean with the same latencies. Droplets are local machines,
---so SSH, uploads and boots are real; "physics" is the sum of the cloud's own seconds on the way.
---
---kiln lua spec/bench/digitalocean_bench.lua [bake] [roll] [first] [calls]
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local do_cloud = require "spec.support.do_cloud"
local scope = require "kiln.scope"
local simulator = require "spec.support.simulator"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())
local seconds = { create = 33, off = 7, snapshot = 50, assign = 4, destroy = 4, database = 180 }

local wanted = {}
for _, word in ipairs(arg) do wanted[word] = true end
local function runs(name) return next(wanted) == nil or wanted[name] end

local first_recipe = [[
local app = require "app"
local blue_green = require "recipes.blue_green"
local cloudinit = require "kiln.cloudinit"
local scope = require "kiln.scope"
local first = { name = "first" }

function first.deploy(run)
  local stages = scope.all {
    function() return app.bake(run, { version = "v2" }) end,
    function() return run.cloud:database("app-db", { create = true }) end,
    function() return run.cloud:address "first" end,
  }
  return blue_green(run, {
    service = "first", version = "v2", image = stages[1], front = stages[3],
    user_data = cloudinit.config {
      cloudinit.env_file("/opt/app/conf.env", { DB_HOST = stages[2].host }),
    },
    health = { path = "/health/check", port = 8080 },
  })
end

return first
]]

local packer_template = [[{ "builders": [{ "type": "digitalocean", "api_token": "%s",
  "api_url": "%s", "image": "debian-12-x64", "region": "fra1", "size": "s-1vcpu-1gb",
  "ssh_username": "root", "snapshot_name": "app-{{timestamp}}" }],
  "provisioners": [
    { "type": "shell", "inline": ["mkdir -p /opt/app"] },
    { "type": "file", "source": "bin/app-v1", "destination": "/opt/app/app" },
    { "type": "file", "source": "app.service", "destination": "/etc/systemd/system/app.service" },
    { "type": "shell", "inline": ["chmod 0755 /opt/app/app", "systemctl enable app"] }] }
]]

local function row(what, took, physics)
  print(("%-46s %7.1f s %7.1f s %8.3f"):format(what, took, physics, took / physics))
end

---Runs kiln; gives the seconds of all, and when each step was done, by name.
local function kiln(site, ...)
  local began, steps, text = timer.now(), {}, {}
  local child <close> = assert(proc.start {
    argv = { exe, "-C", site.dir, "run", ... }, timeout = 900,
    env = { KILN_PATH = tree, KILN_CLOUD = "digitalocean", KILN_JSON = "1",
      DIGITALOCEAN_API_URL = site.sim.url, DIGITALOCEAN_TOKEN = site.sim.token },
  })
  for line in function() return child:read_line() end do
    text[#text + 1] = line
    local event = json.decode(line)
    if type(event) == "table" and event.type == "step.done" then
      steps[event.name] = timer.now() - began
    end
  end
  local done = assert(child:wait())
  if done.code ~= 0 then error(table.concat(text, "\n", math.max(1, #text - 5))) end
  return timer.now() - began, steps
end

local function bake(site)
  local physics = seconds.create + seconds.off + seconds.snapshot
  row("bake: kiln run app.lua bake", (kiln(site, "app.lua", "bake", "--version", "v1")), physics)
  if not fs.stat "/usr/bin/packer" then return print "packer is not installed" end
  local path, began = site.dir .. "/packer.json", timer.now()
  assert(fs.write(path, packer_template:format(site.sim.token, site.sim.url)))
  local done = assert(proc.run { argv = { "/usr/bin/packer", "build", "-color=false", path },
    cwd = site.dir, timeout = 600,
    env = { CHECKPOINT_DISABLE = "1", PACKER_CACHE_DIR = site.dir } })
  assert(done.code == 0, done.out)
  row("bake: packer build", timer.now() - began, physics)
end

local function roll(site)
  kiln(site, "app.lua", "deploy", "--version", "v1") -- something to roll from
  local all, steps = kiln(site, "app.lua", "deploy", "--version", "v1", "--greeting", "Hi")
  local moved
  for name, at in pairs(steps) do moved = name:find("^address ") and at or moved end
  row("roll: traffic moved, health-gated", moved, seconds.create + seconds.assign)
  row("roll: whole, old machine drained", all, seconds.create + seconds.assign)
end

local function first(site)
  assert(fs.write(site.dir .. "/first.lua", first_recipe))
  row("first deploy: database 180 s, bake meanwhile", (kiln(site, "first.lua")),
    seconds.database + seconds.create + seconds.assign)
end

---Counts requests of a rollout of so many machines behind one load balancer, in virtual time.
local function calls(count)
  timer.virtual()
  local cloud = do_cloud.new { latency = seconds, limits = { droplets = 200 } }
  local driver = cloud.driver
  local function fleet(colour)
    local specs, ids = {}, {}
    for index = 1, count do
      specs[index] = { name = ("app-%s-%d"):format(colour, index), image = "debian-12-x64",
        token = ("kl-%s-%d"):format(colour, index), tags = { kiln_colour = colour } }
    end
    local rows = driver:create_machines(specs)
    scope.all(rows, function(one) driver:await_machine(one.id) end)
    for index, one in ipairs(rows) do ids[index] = one.id end
    return ids
  end
  local front = driver:await_balancer(driver:create_balancer({ name = "app", count = count }).id)
  local blue = fleet "blue"
  driver:set_members(front.id, blue)
  timer.sleep(3600)
  local before, began = #cloud.seen, timer.now()
  driver:preflight { machines = count }
  local green = fleet "green"
  driver:set_members(front.id, green)
  local moved = timer.now() - began
  for _, id in ipairs(blue) do driver:destroy_machine(id) end
  local refused = 0
  for index = before + 1, #cloud.seen do
    if cloud.seen[index].status == 429 then refused = refused + 1 end
  end
  timer.real()
  print(("rollout of %2d machines %25d requests %4d refused (429)  %.1f s"):format(count,
    #cloud.seen - before, refused, moved))
end

local function on_machines(body)
  local latency = {}
  for name, value in pairs(seconds) do latency[#latency + 1] = name .. "=" .. value end
  local dir = assert(fs.temp_dir())
  local _ <close> = setmetatable({}, { __close = function()
    fs.remove(dir, { recursive = true })
  end })
  assert(proc.run { argv = { "cp", "-r", "examples/app/.", dir } })
  fs.remove(dir .. "/.kiln", { recursive = true })
  local sim <close> = simulator.start({ "--machines", "local", "--latency",
    table.concat(latency, ",") }, 1500)
  body { dir = dir, sim = sim }
end

print(("%-46s %9s %9s %8s"):format("", "wall", "physics", "ratio"))
if runs "bake" or runs "roll" then
  on_machines(function(site)
    if runs "bake" then bake(site) end
    if runs "roll" then roll(site) end
  end)
end
if runs "first" then on_machines(first) end
if runs "calls" then
  for _, count in ipairs { 1, 10, 50 } do calls(count) end
end
