---What an ordinary user does with local machines, from the first image to nothing left; run by
---`kiln lua` as that user. Prints what it saw as JSON.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local load = require "kiln.load"
local ssh = require "kiln.ssh"
local yaml = require "rt.yaml"
local provider = require "providers.local"

local driver = provider.new {}
local user, host = crypto.ed25519_keypair "spec", crypto.ed25519_keypair "spec"
local seen = { lacking = {} }

local user_data = "#cloud-config\n" .. yaml.encode {
  ssh_authorized_keys = { user.public },
  ssh_keys = {
    ed25519_private = crypto.reveal(host.private), ed25519_public = host.public,
  },
}

local unit = [[
[Service]
ExecStartPre=/bin/sh -c "mkdir -p /srv/w; cat /etc/hostname > /srv/w/name"
ExecStart=/usr/bin/python3 -m http.server -d /srv/w 8000
[Install]
WantedBy=multi-user.target
]]

local function create(name, image)
  return driver:create_machine {
    name = name, token = "token-" .. name, image = image, user_data = user_data,
  }
end

local function run(row, command)
  local session <close> = ssh.connect {
    host = row.address, key = user.private, host_key = host.public, within = 60,
  }
  return session:run(command).out
end

for _, row in ipairs(driver:check()) do
  if not row.ok then seen.lacking[#seen.lacking + 1] = row.name end
end
local base = driver:base_image "debian-13"

local builder = create("builder", base.id)
seen.builder = run(builder, "cloud-init status --wait >/dev/null; "
  .. "systemctl is-system-running --wait; "
  .. "head -n1 /proc/self/uid_map | tr -s ' '; id -u; grep -c nameserver /etc/resolv.conf")
run(builder, "printf '%s' '" .. unit .. "' > /etc/systemd/system/web.service; "
  .. "systemctl enable web 2>/dev/null; chmod 500 /; rm -rf /var/cache/apt; mkdir /var/cache/apt; "
  .. "install -d -o daemon -m 700 /srv/private")
driver:power_off "builder"
local image = driver:snapshot { machine = "builder", name = "web" }
driver:destroy_machine "builder"
seen.digest = #image.digest

local blue, green = create("blue", image.id), create("green", image.id)
seen.identity = run(blue, "ls -d /srv/private /var/cache/apt; cat /etc/machine-id | wc -c")
run(green, "until curl -fs http://127.0.0.1:8000/name; do sleep 0.1; done")
run(blue, "until curl -fs http://127.0.0.1:8000/name; do sleep 0.1; done")

local address = driver:create_address { name = "front" }
driver:assign_address(address.id, "blue")
local report = load.during({
  url = ("http://%s:8000/name"):format(address.ip), rate = 100, fresh = true,
  classify = function(answer) return (answer.body:gsub("%s+$", "")) end,
}, function()
  for swap = 1, 6 do
    timer.sleep(0.3)
    driver:assign_address(address.id, swap % 2 == 1 and "green" or "blue")
  end
end)
seen.load = { failed = report.failed, requests = report.requests, versions = report.versions,
  first_failure = report.first_failure }
seen.inside = run(blue, ("curl -fs -m 5 http://%s:8000/name"):format(address.ip))

-- Who comes later, as a resumed run does, knows only the address.
local again = assert(proc.run { argv = { assert(fs.realpath("/proc/self/exe")), "lua",
  "spec/providers/local_user/asks.lua", "reach", address.ip, "8000" } })
seen.later = again.out .. again.err

driver:destroy_machine "green"
driver:destroy_machine "blue"
driver:destroy_image(image.id)
driver:destroy_address(address.id)
seen.machines, seen.addresses = #driver:machines(), #driver:addresses()
seen.site = assert(fs.realpath((proc.getenv "HOME") .. "/.local/share/kiln"))
seen.left = fs.list(seen.site .. "/machines")
print(json.encode(seen))
