---A client that nobody here wrote: Debian's python3-digitalocean.
local fs = require "rt.fs"
local proc = require "rt.proc"
local simulator = require "spec.support.simulator"

local python = "/usr/bin/python3"

local script = [[
import os, time, digitalocean

manager = digitalocean.Manager(token=os.environ["DO_TOKEN"])
print("account", manager.get_account().status)
print("regions", len(manager.get_all_regions()) > 5, len(manager.get_all_sizes()) > 5)

key = digitalocean.SSHKey(token=manager.token, name="k", public_key=os.environ["PUBLIC_KEY"])
key.create()
print("keys", [k.name for k in manager.get_all_sshkeys()])

droplet = digitalocean.Droplet(token=manager.token, name="app", region="nyc3",
    image="debian-12-x64", size_slug="s-1vcpu-1gb", ssh_keys=[key.id], tags=["blue"],
    user_data="#cloud-config\n")
droplet.create()
for action in droplet.get_actions():
    action.wait(update_every_seconds=0.05)
    print("action", action.type, action.status)
droplet.load()
print("droplet", droplet.status, droplet.ip_address is not None, droplet.tags)
print("by tag", [d.name for d in manager.get_all_droplets(tag_name="blue")])

def settle(action):
    manager.get_action(action["action"]["id"]).wait(update_every_seconds=0.05)

settle(droplet.shutdown())
settle(droplet.take_snapshot("baked"))
droplet.load()
print("off", droplet.status, len(droplet.get_snapshots()))
image = [i for i in manager.get_my_images()][0]
print("image", image.name, image.regions, image.min_disk_size)

address = digitalocean.FloatingIP(token=manager.token, region_slug="nyc3")
address.reserve()
settle(address.assign(droplet_id=droplet.id))
print("address", manager.get_floating_ip(address.ip).droplet["id"] == droplet.id)

domain = digitalocean.Domain(token=manager.token, name="example.com", ip_address="192.0.2.1")
domain.create()
domain.create_new_domain_record(type="A", name="www", data="192.0.2.2")
print("records", sorted(r.type for r in domain.get_records()))

rule = digitalocean.ForwardingRule(entry_port=80, entry_protocol="http", target_port=80,
    target_protocol="http")
check = digitalocean.HealthCheck(check_interval_seconds=3, healthy_threshold=2, path="/",
    port=80, protocol="http", response_timeout_seconds=2, unhealthy_threshold=2)
balancer = digitalocean.LoadBalancer(token=manager.token, name="lb", region="nyc3",
    algorithm="round_robin", forwarding_rules=[rule], health_check=check,
    sticky_sessions=digitalocean.StickySessions(), droplet_ids=[droplet.id])
balancer.create()
print("balancer", balancer.status, [b.name for b in manager.get_all_load_balancers()])

volume = digitalocean.Volume(token=manager.token, name="data", region="nyc3", size_gigabytes=1)
volume.create()
print("volumes", [v.name for v in manager.get_all_volumes()])

try:
    digitalocean.Droplet(token=manager.token, name="no", region="nyc3", image="none",
        size_slug="s-1vcpu-1gb").create()
except digitalocean.DataReadError as refused:
    print("refused", refused)

for thing in (balancer, volume, address, image, droplet, domain, key):
    thing.destroy()
for _ in range(100):
    if not manager.get_all_droplets():
        break
    time.sleep(0.05)
print("left", len(manager.get_all_droplets()), len(manager.get_my_images()),
    len(manager.get_all_floating_ips()), len(manager.get_all_load_balancers()))
]]

local wanted = [[
account active
regions True True
keys ['k']
action create completed
droplet active True ['blue']
by tag ['app']
off off 1
image baked ['nyc3'] 25
address True
records ['A', 'A', 'NS', 'NS', 'NS', 'SOA']
balancer new ['lb']
volumes ['data']
refused You specified an invalid image for Droplet creation.
left 0 0 0 0
]]

describe("python3-digitalocean", function()
  it("creates, lists, bakes, assigns and deletes through the simulator", function()
    if not fs.stat "/usr/lib/python3/dist-packages/digitalocean" then
      pending "not run: the Debian package python3-digitalocean is missing"
      return
    end
    local sim <close> = simulator.start { "--speed", "100" }
    local ended = assert(proc.run {
      argv = { python, "-c", script }, timeout = 60,
      env = {
        DIGITALOCEAN_END_POINT = sim.url .. "/v2/", DO_TOKEN = sim.token,
        PUBLIC_KEY = require("rt.crypto").ed25519_keypair("k").public,
      },
    })
    assert.equal("", ended.err)
    assert.equal(wanted, ended.out)
  end)
end)
