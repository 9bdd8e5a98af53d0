---The connections to a run's machines, and to a recipe's own hosts: one is kept for each, and made
---again when it is lost.
local timer = require "rt.timer"
local error_ = require "kiln.error"
local machine_keys = require "kiln.machine_keys"
local ssh = require "kiln.ssh"

local sessions = {}

---Closes the connections of a run.
---@param run kiln.Run
function sessions.close_all(run)
  for _, port in ipairs(run.forwards or {}) do port:close() end
  for _, session in pairs(run.sessions or {}) do session:close() end
  run.forwards, run.sessions = {}, {}
end

---Returns the kept connection, if there is one. A host has one for each object; a machine, which
---may have several objects, for its id.
---@param self kiln.Machine|kiln.Host
---@return kiln.ssh.Session?
function sessions.kept(self)
  return (self.on.sessions or {})[self.dial and self or self.id]
end

---Closes the kept connection of a machine, if there is one.
---@param self kiln.Machine|kiln.Host
function sessions.drop(self)
  local session = sessions.kept(self)
  if not session then return end
  self.on.sessions[self.dial and self or self.id] = nil
  session:close()
end

local function dial(self, within)
  local key = machine_keys.project(self.on.store.folder)
  return ssh.connect {
    host = self.address, name = self.name, user = "root", key = key,
    host_key = self.row.host_key, within = within,
  }
end

---Gives the kept connection, or makes one; waits until the machine answers.
---@async
---@param self kiln.Machine|kiln.Host
---@param within? number seconds (60)
---@return kiln.ssh.Session
function sessions.of(self, within)
  local run = self.on
  run.sessions = run.sessions or {}
  local kept = sessions.kept(self)
  if kept and kept:alive() then return kept end
  sessions.drop(self)
  local session = (self.dial or dial)(self, within or 60)
  run.sessions[self.dial and self or self.id] = session
  return session
end

---Does something over SSH; a lost connection is made again until the time is over. Only for what
---may be done twice.
---@async
---@generic T
---@param self kiln.Machine|kiln.Host
---@param within number seconds
---@param action fun(session: kiln.ssh.Session, left: number): T
---@return T
function sessions.persist(self, within, action)
  local deadline = timer.now() + within
  while true do
    local ok, result = xpcall(function()
      return action(sessions.of(self, math.max(deadline - timer.now(), 1)), deadline - timer.now())
    end, error_.from)
    if ok then return result end
    if not error_.is(result, "unreachable") or timer.now() >= deadline then
      result.machine = self.name
      error(result, 0)
    end
    sessions.drop(self)
    timer.sleep(0.2)
  end
end

return sessions
