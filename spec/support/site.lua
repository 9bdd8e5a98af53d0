---A site of local machines for a spec: its own folder, network and base image.
local base = require "providers.local.base"
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local ssh = require "kiln.ssh"
local yaml = require "rt.yaml"

local site = {}

---The base of this tree; another where that was not made yet.
local function archive()
  local folder = proc.getenv "KILN_LOCAL_BASE" or "/var/lib/kiln/base"
  local path = ("%s/%s.tar.zst"):format(folder, base.image_name "debian-13")
  return fs.stat(path) and path or (fs.glob(folder .. "/base-trixie-*.tar.zst") or {})[1], folder
end

---Says why there can be no machines here, nil when there can.
---@return string?
function site.why_not()
  if proc.info().uid ~= 0 then return "machines need root" end
  local dir = assert(fs.temp_dir())
  local rows, err = machine.check { dir = dir }
  fs.remove(dir, { recursive = true })
  if not rows then return "no machines here: " .. err.message end
  for _, row in ipairs(rows) do
    if not row.ok then return ("no machines here: %s: %s"):format(row.name, row.message) end
  end
  local tar, folder = archive()
  if not tar then return "no base root file system in " .. folder .. "; `kiln run` makes it" end
end

---@class spec.Site
local Site = {}
Site.__index = Site

---Makes the site with the image "base".
---@return spec.Site
function site.new()
  local dir = assert(fs.temp_dir())
  local self = setmetatable({ dir = dir .. "/site", temp = dir }, Site)
  assert(machine.unpack { dir = self.dir, tar = (archive()), image = "base" })
  self.tag = assert(fs.read(self.dir .. "/id")):sub(1, 8)
  self.user, self.host = crypto.ed25519_keypair "spec", crypto.ed25519_keypair "spec"
  return self
end

---Options of machine.create for that name: the site's keys are in its user-data.
function Site:options(name, image)
  return {
    dir = self.dir, name = name, image = image or "base", token = "token-" .. name,
    user_data = "#cloud-config\n" .. yaml.encode {
      ssh_authorized_keys = { self.user.public },
      ssh_keys = {
        ed25519_private = crypto.reveal(self.host.private), ed25519_public = self.host.public,
      },
    },
  }
end

function Site:create(name, image) return assert(machine.create(self:options(name, image))) end

---Runs a command on a machine, by ssh with the pinned key; gives its output.
function Site:run(row, command)
  local session <close> = ssh.connect {
    host = row.address, key = self.user.private, host_key = self.host.public, within = 60,
  }
  return session:run(command, { check = false }).out
end

---The machine's row, nil when there is none.
function Site:row(name)
  for _, row in ipairs(assert(machine.list { dir = self.dir })) do
    if row.name == name then return row end
  end
end

---What the site has on the host: processes, interfaces, routes, control groups. (A process in a
---deleted group has ended, and waits for the host's PID 1 to take notice.)
function Site:traces()
  local tag = self.tag
  local found = assert(proc.run { argv = { "sh", "-c", ([[
    ip -o link show kl-%s 2>/dev/null
    ip route | grep kl-%s
    find /sys/fs/cgroup /run/kiln -maxdepth 3 -name "kiln?%s" 2>/dev/null
    grep -H %s /proc/[0-9]*/mountinfo /proc/[0-9]*/cgroup 2>/dev/null | grep -v "(deleted)$"]])
    :format(tag, tag, tag, tag) } })
  return found.out
end

---Ends everything, and gives what it left.
function Site:close()
  for _, row in ipairs(machine.list { dir = self.dir } or {}) do
    machine.destroy { dir = self.dir, name = row.name }
  end
  assert(machine.network_down { dir = self.dir })
  proc.run { argv = { "rm", "-rf", self.temp } }
  return self:traces()
end

return site
