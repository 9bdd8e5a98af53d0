---How a machine of the local cloud boots.
local crypto = require "rt.crypto"
local local_site = require "spec.support.local_site"
local machine_boot = require "kiln.machine_boot"
local machine_keys = require "kiln.machine_keys"
local provider = require "providers.local"
local ssh = require "kiln.ssh"

describe("a local machine's boot", function()
  local missing = local_site.lacking()
  local dir, session

  setup(function()
    if missing then return end
    dir = local_site.make "boot"
    local driver = provider.new { dir = dir, archives = local_site.archives }
    local user, host = crypto.ed25519_keypair "spec", crypto.ed25519_keypair "spec"
    local row = driver:create_machine {
      name = "boots", token = "boots", image = driver:base_image("debian-13").id, tags = {},
      user_data = machine_keys.user_data {
        user_public = user.public, host_private = crypto.reveal(host.private),
        host_public = host.public,
      },
    }
    session = ssh.connect { host = row.address, key = user.private, host_key = host.public }
    machine_boot.await({ name = "boots", on = { note = function(_, text) error(text) end } },
      session, 120, "done")
  end)
  teardown(function()
    if session then session:close() end
    if dir then local_site.remove(dir) end
  end)

  local function on_machines(name, body)
    it(name, function()
      if missing then return pending(missing) end
      body()
    end)
  end

  local function out(command)
    local done = session:run(command, { check = false })
    return done.out .. done.err
  end

  on_machines("ends with all units well, and with cloud-init's own log", function()
    assert.equal("running\n", out "systemctl is-system-running --wait")
    assert.equal("", out "systemctl --failed --no-legend")
    assert.matches("running 'modules:final'", out "journalctl -b -t cloud-init", 1, true)
  end)

  on_machines("starts D-Bus when somebody connects to it", function()
    assert.equal("inactive\n", out "systemctl is-active dbus.service")
    assert.matches("org.freedesktop.DBus", out "busctl list", 1, true)
    assert.equal("active\n", out "systemctl is-active dbus.service")
  end)
end)
