---A machine as recipes see it: commands and files over SSH, each a journaled operation.
local timer = require "rt.timer"
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local commands = require "kiln.machine_commands"
local boot = require "kiln.machine_boot"
local machine_keys = require "kiln.machine_keys"
local op = require "kiln.op"
local scope = require "kiln.scope"
local sessions = require "kiln.machine_sessions"

local machine = { close_all = sessions.close_all }

---@class kiln.Machine
---@field id string
---@field name string
---@field address string
---@field image string
---@field row table what the provider said, and the pinned host key
---@field private on kiln.Run
local Machine = setmetatable({}, { __index = commands })
Machine.__index = Machine

---Makes the object of a machine's row.
---@param run kiln.Run
---@param row table
---@return kiln.Machine
function machine.new(run, row)
  return setmetatable({
    on = run, row = row, id = row.id, name = row.name, address = row.address, image = row.image,
  }, Machine)
end

---Waits until the machine is ready: it has an address, SSH answers with the pinned key, cloud-init
---has done all that the user-data asked for. Raises `exit` with what cloud-init says where not.
---@async
---@param opts? { within: number?, cloud_init: "done"|"degraded"|"error"? } seconds (180); the worst
---  end of cloud-init that will do ("done")
---@return kiln.Machine self
function Machine:ready(opts)
  local within = opts and opts.within or 180
  local allowed = boot.allowed(opts and opts.cloud_init)
  local row = op.call {
    name = "ready " .. self.name, class = "read", args = { id = self.id }, quiet = true,
    perform = function()
      local deadline = timer.now() + within
      local driver = self.on.cloud.driver
      local now = driver.await_machine and driver:await_machine(self.id, within)
        or driver:machine(self.id)
      while now and (now.state == "new" or (now.address or "") == "") do
        if timer.now() > deadline then
          error_.raise { kind = "timeout", machine = self.name,
            message = ("%s got no address within %g s"):format(self.name, within) }
        end
        timer.sleep(0.5)
        now = driver:machine(self.id)
      end
      if not now or now.state == "stopped" then
        error_.raise { kind = "unreachable", machine = self.name,
          message = ("%s is %s"):format(self.name, now and "switched off" or "gone") }
      end
      self.address = now.address
      sessions.persist(self, within, function(session, left)
        boot.await(self, session, left, allowed)
      end)
      return { address = now.address }
    end,
  }
  self.address, self.row.address = row.address, row.address
  return self
end

---Tells the guest to switch itself off: the shortest way where a cloud's own takes longer. Whatever
---goes wrong here, the cloud switches it off.
local function tell_off(self)
  local session = sessions.kept(self)
  if not session or not session:alive() then return false end
  local ok, err = xpcall(session.run, error_.from, session, "systemctl --no-block poweroff",
    { check = false, timeout = 10 })
  if not ok and error_.is(err, "cancelled", "stopped") then error(err, 0) end
  return ok
end

---Switches the machine off and waits until it is.
---@async
function Machine:power_off()
  op.call {
    name = "power off " .. self.name, class = "idempotent", args = { id = self.id }, quiet = true,
    perform = function()
      local driver = self.on.cloud.driver
      local told = driver.capabilities.guest_power_off and tell_off(self)
      sessions.drop(self)
      driver:power_off(self.id, { told = told })
    end,
  }
end

---Destroys the machine; one that is gone already is fine.
---@async
function Machine:destroy()
  op.call {
    name = "destroy " .. self.name, class = "idempotent", args = { id = self.id }, quiet = true,
    perform = function()
      sessions.drop(self)
      self.on.cloud.driver:destroy_machine(self.id)
      if self.row.token then
        self.on.store:ledger_gone(self.row.token)
        machine_keys.forget(self.on.store.folder, self.row.token)
      end
    end,
  }
end

---Gives what a journal or a release record needs to find the machine again.
---@return table row
function Machine:record()
  local row = self.row
  return {
    id = row.id, name = row.name, address = self.address, image = row.image, token = row.token,
    host_key = row.host_key,
  }
end

---Counts established connections from other hosts: those on the ports that are given, else on all
---that the machine listens on, but for the port that kiln itself came in by.
local count_script = [=[
command -v ss >/dev/null || { echo none; exit; }
set -- $SSH_CONNECTION
{ ss -Htln; echo --; ss -Htn state established; } | awk -v own="$4" -v ports="PORTS" '
  BEGIN { given = split(ports, list, " "); for (i in list) counted[list[i]] = 1 }
  $1 == "--" { established = 1; next }
  { here = established ? $3 : $4; sub(/.*:/, "", here) }
  !established { if (!given && here != own) counted[here] = 1; next }
  (here in counted) && $4 !~ /^(127\.|\[::1\]|\[::ffff:127\.)/ { count++ }
  END { print count + 0 }'
]=]

---Counts the machine's connections from inside. A machine that cannot be reached serves nobody. Of
---one that lets kiln not in (adopted machines have no host key here) nobody can tell.
---@return integer? count
---@return string? why what kiln cannot do there, when it cannot count
local function connections_inside(self, ports, within)
  if not self.row.host_key then return nil, "log in" end
  local script = count_script:gsub("PORTS", table.concat(ports or {}, " "))
  local ok, out = xpcall(sessions.persist, error_.from, self, within, function(session, rest)
    return session:run(script, { timeout = math.max(rest, 1) }).out
  end)
  if ok then
    local count = math.tointeger(tonumber(out))
    return count, not count and "find ss (of iproute2)" or nil
  end
  if error_.halts(out) or error_.is(out, "cancelled") then error(out, 0) end
  if error_.is(out, "unreachable", "timeout") then return 0 end
  return nil, "log in"
end

local function check_ports(ports)
  for _, port in ipairs(ports or {}) do
    if math.type(port) ~= "integer" or port < 1 or port > 65535 then
      error_.raise { kind = "usage",
        message = ("drain: a port is a number from 1 to 65535, not %s"):format(tostring(port)) }
    end
  end
end

---Waits until the machine has no established connection through a front left, or the time is over.
---Where nobody can count them, that is the whole time.
---@async
---@param front kiln.Address|kiln.Balancer
---@param opts? { within: number?, ports: integer[]? } seconds (30); the ports whose connections are
---  counted on the machine (the cloud counts a front's, if it can; else all ports but ssh's)
---@return integer? left connections; nil: they cannot be counted
---@return string? why what kiln cannot do there, when it cannot count
function Machine:drain(front, opts)
  opts = opts or {}
  check_ports(opts.ports)
  local within = opts.within or 30
  local told = not opts.ports and front.connections and self.on.cloud:can "connections"
  local seen = op.call {
    name = "drain " .. self.name, class = "read", quiet = true,
    args = { machine = self.id, address = front.id },
    perform = function()
      local deadline = timer.now() + within
      local left, why
      repeat
        if told then
          left = front:connections(self.id)
        else
          left, why = connections_inside(self, opts.ports, 10)
        end
        if left == 0 then break end
        timer.sleep(left and (told and 0.1 or 0.5) or math.max(deadline - timer.now(), 0))
      until timer.now() >= deadline
      return { left = left, why = why }
    end,
  }
  return seen.left, seen.why
end

---Waits for several machines at the same time.
---@async
---@param machines kiln.Machine[]
---@param opts? { within: number?, cloud_init: string? } as in `ready`
function machine.all_ready(machines, opts)
  scope.all(machines, function(one) return one:ready(opts) end)
end

signature.class("machine", Machine)

return machine
