---Debian's packer bakes through the simulator: create, log in, provision, shut down, snapshot,
---destroy, with droplets that are machines of this host. The image it leaves boots and serves.
local fs = require "rt.fs"
local http = require "kiln.http"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local provider = require "kiln.provider"
local retry = require "kiln.retry"
local simulator = require "spec.support.simulator"

local tree = assert(fs.cwd())

---A template as the builder's documentation has it (developer.hashicorp.com/packer, builder
---"digitalocean"). Of this environment are only `api_url` and the service that is built from the
---example's source.
local template = [[
{
  "variables": { "token": "{{env `DIGITALOCEAN_API_TOKEN`}}", "version": "v1" },
  "builders": [{
    "type": "digitalocean",
    "api_token": "{{user `token`}}",
    "api_url": "%s",
    "image": "centos-7-x64",
    "region": "nyc3",
    "size": "s-1vcpu-1gb",
    "ssh_username": "root",
    "snapshot_name": "app-{{user `version`}}-{{timestamp}}",
    "tags": ["packer"]
  }],
  "provisioners": [
    { "type": "shell", "inline": ["mkdir -p /opt/app"] },
    { "type": "file", "source": "bin/app-v1", "destination": "/opt/app/app" },
    { "type": "file", "source": "app.service", "destination": "/etc/systemd/system/app.service" },
    { "type": "shell", "inline": [
      "chmod 0755 /opt/app/app", "systemctl daemon-reload", "systemctl enable app",
      "rm -f /etc/ssh/ssh_host_* /root/.ssh/authorized_keys", "cloud-init clean --logs"
    ] }
  ]
}
]]

local function why_not()
  if not fs.stat "/usr/bin/packer" then return "the Debian package packer is missing" end
  local ok, rows = pcall(function() return provider.driver("local"):check() end)
  if not ok then return "no local machines here: " .. tostring(rows) end
  for _, row in ipairs(rows) do
    if not row.ok then return ("no local machines here: %s: %s"):format(row.name, row.message) end
  end
end

local function bake(sim)
  local path = os.tmpname()
  assert(fs.write(path, template:format(sim.url)))
  local started = timer.now()
  local ended = assert(proc.run {
    argv = { "/usr/bin/packer", "build", "-color=false", path }, cwd = tree .. "/examples/app",
    timeout = 300, env = { DIGITALOCEAN_API_TOKEN = sim.token, CHECKPOINT_DISABLE = "1",
      PACKER_CACHE_DIR = "/tmp" },
  })
  os.remove(path)
  return ended, timer.now() - started
end

local function wait_for(sim, path, reached)
  local deadline = timer.now() + 60
  while true do
    local body = sim:call("GET", path)
    local value = reached(body)
    if value then return value end
    assert(timer.now() < deadline, path .. ": not reached: " .. json.encode(body))
    timer.sleep(0.5)
  end
end

describe("packer", function()
  it("bakes an image that boots and serves, and leaves nothing else", function()
    local missing = why_not()
    if missing then
      pending("not run: " .. missing)
      return
    end
    local sim <close> = simulator.start({ "--machines", "local", "--latency",
      "create=4,off=2,snapshot=6,destroy=1" }, 600)
    local ended, seconds = bake(sim)
    assert.equal(0, ended.code, ended.out .. ended.err)
    assert.matches("A snapshot was created: 'app%-v1%-%d+' %(ID: %d+%) in regions 'nyc3'",
      ended.out)
    print(("packer build: %.1f s, of which 12 s are the cloud's"):format(seconds))
    timer.sleep(2)
    assert.equal(0, sim:call("GET", "/v2/droplets").meta.total)
    assert.equal(0, sim:call("GET", "/v2/account/keys").meta.total)

    local image = sim:call("GET", "/v2/images?private=true").images[1]
    local made = sim:call("POST", "/v2/droplets", { name = "app", region = "nyc3",
      size = "s-1vcpu-1gb", image = image.id,
      user_data = "#cloud-config\nwrite_files:\n- path: /opt/app/conf.env\n"
        .. "  content: \"DB_HOST=db.internal\\nGREETING=Baked\\n\"\n" })
    local ip = wait_for(sim, "/v2/droplets/" .. made.droplet.id, function(body)
      local public = body.droplet.networks.v4[2]
      return body.droplet.status == "active" and public and public.ip_address
    end)
    local seen = retry.call(function()
      return http.get(("http://%s:8080/health/check"):format(ip), { timeout = 2 })
    end, { within = 60, kinds = { "unreachable", "timeout", "status" } })
    assert.equal(200, seen.status)
    assert.matches("v1", seen.body)
  end)
end)
