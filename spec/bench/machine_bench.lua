---How fast local machines come up: one alone, and twenty at once.
---Run as root, after the demo (its image is used):
---`build/release/kiln lua spec/bench/machine_bench.lua [COUNT]`
local crypto = require "rt.crypto"
local http = require "rt.http"
local timer = require "rt.timer"
local cloudinit = require "kiln.cloudinit"
local machine_keys = require "kiln.machine_keys"
local provider = require "kiln.provider"
local scope = require "kiln.scope"
local ssh = require "kiln.ssh"

local fleet = tonumber(arg[1]) or 20
local driver = provider.driver "local"
local user, host = crypto.ed25519_keypair "bench", crypto.ed25519_keypair "bench"
local user_data = machine_keys.user_data({
  user_public = user.public, host_private = crypto.reveal(host.private), host_public = host.public,
}, cloudinit.config {
  cloudinit.env_file("/opt/app/conf.env", { DB_HOST = "db.internal", FLAG = "1" }),
})

local function healthy(address)
  local deadline = timer.now() + 60
  repeat
    local answer = http.request { url = ("http://%s:8080/health/check"):format(address),
      connect_timeout = 1, timeout = 2 }
    if answer and answer.status == 200 then return end
    timer.sleep(0.02)
  until timer.now() > deadline
  error("no healthy app at " .. address)
end

---Creates a machine and gives the seconds to each stage. The caller destroys it.
local function boot(name, image, with_app)
  driver:destroy_machine(name) -- of a bench that was cut off
  local at, started = {}, timer.now()
  local row = driver:create_machine {
    name = name, token = "bench-" .. name, image = image, user_data = user_data, tags = {},
  }
  at.row, at.create = row, timer.now() - started
  scope.all {
    function()
      local session = ssh.connect {
        host = row.address, key = user.private, host_key = host.public, within = 120,
      }
      session:run "true"
      at.ssh = timer.now() - started
      session:close()
    end,
    function()
      if not with_app then return end
      healthy(row.address)
      at.app = timer.now() - started
    end,
  }
  return at
end

local function destroy(row)
  local started = timer.now()
  driver:destroy_machine(row.id)
  return timer.now() - started
end

local function median(rows, key)
  local values = {}
  for index, row in ipairs(rows) do values[index] = row[key] end
  table.sort(values)
  return values[(#values + 1) // 2]
end

local image
for _, found in ipairs(driver:images()) do
  if found.name:find("^app%-") then image = found end
end
if not image then error("no image of the app: run the demo first") end

local function line(what, seconds, base)
  print(("%-44s %7.2f s %6.2fx"):format(what, seconds, seconds / base))
end

local alone = {}
for index = 1, 5 do
  local at = boot("bench-" .. index, image.id, true)
  at.destroy = destroy(at.row)
  alone[index] = at
end
local base = median(alone, "ssh")
print(("%-44s %9s %7s"):format("", "", "ratio"))
line("one machine: create returns", median(alone, "create"), base)
line("one machine: create to ssh (target 2 s)", base, base)
line("one machine: create to healthy app", median(alone, "app"), base)
line("one machine: destroy", median(alone, "destroy"), base)

local names = {}
for index = 1, fleet do names[index] = "bench-" .. index end
local started = timer.now()
local all = scope.all(names, function(name) return boot(name, image.id, false) end)
line(("%d machines at once: all on ssh"):format(fleet), timer.now() - started, base)
line(("%d machines at once: median on ssh"):format(fleet), median(all, "ssh"), base)
started = timer.now()
scope.all(all, function(at) destroy(at.row) end)
line(("%d machines at once: all destroyed"):format(fleet), timer.now() - started, base)
