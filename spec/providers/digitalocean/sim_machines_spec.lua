---Simulated droplets that are machines of this host: they answer, go off, are frozen, boot again.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"
local provider = require "kiln.provider"
local simulator = require "spec.support.simulator"

local function why_not()
  local ok, rows = pcall(function() return provider.driver("local"):check() end)
  if not ok then return tostring(rows) end
  for _, row in ipairs(rows) do
    if not row.ok then return ("%s: %s"):format(row.name, row.message) end
  end
end

---Looks until a droplet has a status; gives it.
local function await(sim, id, status)
  local deadline = timer.now() + 90
  local droplet
  repeat
    droplet = sim:call("GET", "/v2/droplets/" .. id).droplet
    if droplet.status == status and not droplet.locked then return droplet end
    timer.sleep(0.2)
  until timer.now() > deadline
  error(("droplet %d is %s, not %s"):format(id, droplet.status, status))
end

describe("kiln sim --machines local", function()
  it("bakes and boots: the guest's user data, its poweroff, its snapshot, its address", function()
    local missing = why_not()
    if missing then
      pending("not run, no local machines here: " .. missing)
      return
    end
    local sim <close> = simulator.start({ "--machines", "local", "--latency",
      "create=1,off=1,snapshot=1,assign=0,destroy=0" }, 300)
    local pair = crypto.ed25519_keypair "spec"
    local key = sim:call("POST", "/v2/account/keys", { name = "k", public_key = pair.public })
    local function droplet(image, user_data)
      return sim:call("POST", "/v2/droplets", { name = "app", region = "nyc3",
        size = "s-1vcpu-1gb", image = image, ssh_keys = { key.ssh_key.id },
        user_data = user_data }).droplet.id
    end
    local id = droplet("debian-12-x64", "#cloud-config\nruncmd: ['echo told > /root/told']\n")
    await(sim, id, "active")
    local address = sim:call("POST", "/v2/reserved_ips", { droplet_id = id }).reserved_ip
    local private = os.tmpname()
    assert(fs.write(private, crypto.reveal(pair.private), { mode = "0600" }))
    local function inside(ip, command)
      local deadline = timer.now() + 60
      while true do
        local ended = assert(proc.run { timeout = 60, argv = { "ssh", "-i", private, "-o",
          "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
          "-o", "ConnectTimeout=3", "root@" .. ip, command } })
        if ended.code ~= 255 then return ended.out end
        assert(timer.now() < deadline, ended.err)
        timer.sleep(0.3)
      end
    end
    assert.equal("told\n",
      inside(address.ip, "cloud-init status --wait >/dev/null; cat /root/told"))
    inside(address.ip, "echo baked > /etc/baked; systemctl poweroff")
    await(sim, id, "off")
    sim:call("POST", "/v2/droplets/" .. id .. "/actions", { type = "snapshot", name = "one" })
    await(sim, id, "off")
    local image = sim:call("GET", "/v2/droplets/" .. id .. "/snapshots").snapshots[1]
    local again = await(sim, droplet(image.id), "active")
    assert.equal("baked\n", inside(again.networks.v4[2].ip_address, "cat /etc/baked"))
    os.remove(private)
    assert.equal(0, sim:close())
    local left = fs.glob(provider.driver("local").site.dir .. "-sim-" .. sim.child:pid() .. "-*")
    assert.same({}, left or {})
  end)
end)
