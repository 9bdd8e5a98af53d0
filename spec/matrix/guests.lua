---What runs on the simulator's droplets, without droplets: files, commands under a guard, a health
---answer. Takes the place of kiln.ssh, kiln.guard and kiln.probe in the matrix's process.
local crypto = require "rt.crypto"
local error_ = require "kiln.error"
local timer = require "rt.timer"
local death = require "spec.matrix.death"
local inject = require "spec.matrix.inject"

local guests = {}

---@class spec.Guest
---@field files table<string, string>
---@field done table<string, { code: integer, out: string, err: string }> by the guard's key
---@field commands string[] that ran

local Guests = {}
Guests.__index = Guests

---@param account table a simulated account
function guests.new(account)
  return setmetatable({ account = account, by_id = {} }, Guests)
end

local function copy(files)
  local out = {}
  for name, text in pairs(files or {}) do out[name] = text end
  return out
end

---Gives the guest of a droplet; the first time it has the files of its image, which are those of
---the droplet that the image was made from.
function Guests:of(droplet)
  local guest = self.by_id[droplet.id]
  if not guest then
    local source = self.by_id[droplet.image.droplet_id]
    guest = { files = copy(source and source.files), done = {}, commands = {} }
    self.by_id[droplet.id] = guest
  end
  return guest
end

local function execute(guest, command)
  guest.commands[#guest.commands + 1] = command
  local text, path = command:match("^echo (%S+) > (%S+)$")
  if path then guest.files[path] = text end
  return { code = 0, out = command:find("status: ", 1, true) and command or "", err = "" }
end

---Tells which version answers well at an address; v3 never does.
---@return string?
function Guests:serving(address)
  local droplet = self.account.running(address)
  local files = droplet and self:of(droplet).files or {}
  local version = files["/opt/app/version"] or files["/opt/app/app"]
  return version ~= "v3" and version or nil
end

local Session = {}
Session.__index = Session

local function reach(self, what)
  inject.pass()
  death.pass("before " .. what)
  timer.sleep(0.05)
  local droplet = self.guests.account.running(self.address)
  if not droplet then
    error_.raise { kind = "unreachable", effect = "none", message = self.address .. " is down" }
  end
  return self.guests:of(droplet), droplet
end

function Session:alive() return not self.closed end
function Session:close() self.closed = true end

function Session:run(command)
  local key, text = command:match("^GUARD (%S+) (.*)$")
  if not key then
    local guest, droplet = reach(self, "a plain command")
    if command:find("poweroff", 1, true) then self.guests.account.power_off(droplet) end
    if command:find("/run/cloud-init", 1, true) then
      return { code = 0, out = 'ended\n{"v1": {}}', err = "" }
    end
    if command:find("^ss ") then return { code = 0, out = "0\n", err = "" } end
    return execute(guest, command)
  end
  local what = "command " .. text:match("[^\n]*")
  local guest = reach(self, what)
  guest.done[key] = guest.done[key] or execute(guest, text)
  death.pass("in " .. what)
  return guest.done[key]
end

function Session:upload(source, target)
  local guest = reach(self, "upload " .. target)
  local file <close> = assert(io.open(source, "rb"))
  guest.files[target] = file:read "a"
  death.pass("in upload " .. target)
  return { sha256 = crypto.sha256(guest.files[target]), bytes = #guest.files[target] }
end

function Session:write(target, content)
  local guest = reach(self, "write " .. target)
  guest.files[target] = tostring(content)
  death.pass("in write " .. target)
end

---Puts a world's guests in the place of real machines, from now on.
function Guests:install()
  guests.current = self
end

package.loaded["kiln.ssh"] = {
  connect = function(options)
    return setmetatable({ guests = guests.current, address = options.host }, Session)
  end,
}

package.loaded["kiln.guard"] = {
  ends = {},
  command = function(key, command) return "GUARD " .. key .. " " .. command end,
  stop = function() return "true" end,
}

package.loaded["kiln.probe"] = {
  http = function(opts)
    death.pass("before probe " .. opts.host)
    local deadline = timer.now() + opts.within
    while true do
      local version = guests.current:serving(opts.host)
      if version and (not opts.version or opts.version == version) then
        return { attempts = 1, seconds = 0, last = { status = 200, body = version } }
      end
      if timer.now() >= deadline then
        error_.raise { kind = "unhealthy", message = opts.host .. ": 500" }
      end
      timer.sleep(1)
    end
  end,
}

return guests
