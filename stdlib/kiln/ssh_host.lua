---`kiln.ssh` as recipes see it: a host that kiln did not make, with commands and files that are
---operations of the run. Inside an operation's own `perform` it is the plain `kiln.ssh`.
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local commands = require "kiln.machine_commands"
local op = require "kiln.op"
local scope = require "kiln.scope"
local secret = require "kiln.secret"
local sessions = require "kiln.machine_sessions"
local ssh = require "kiln.ssh"

local ssh_host = setmetatable({}, { __index = ssh })

---@class kiln.Host: kiln.Machine
---@field name string for messages
---@field id string as the recipe named it
---@field host string
---@field notes string[] what of the user's configuration or keys was left out, and why
---@field private on kiln.Run
---@field private opts kiln.ssh.ConnectOptions
local Host = setmetatable({}, { __index = commands })
Host.__index = Host

---Connects, also again when the connection was lost.
---@async
---@param within number seconds
---@return kiln.ssh.Session
function Host:dial(within)
  if self.closed then
    error_.raise { kind = "usage", message = ("the connection to %s is closed"):format(self.name) }
  end
  local opts = {}
  for key, value in pairs(self.opts) do opts[key] = value end
  opts.within = within
  if opts.via then opts.via = sessions.of(opts.via, within) end
  return ssh.connect(opts)
end

---Tells whether the connection is there, as it was at this place of the run.
---@async
---@return boolean
function Host:alive()
  return op.call {
    name = "look at the connection to " .. self.name, class = "read", quiet = true,
    args = { machine = self.id },
    perform = function()
      local session = sessions.kept(self)
      return session ~= nil and session:alive()
    end,
  }
end

---Closes the connection. May run twice.
function Host:close()
  self.closed = true
  sessions.drop(self)
end

Host.__close = Host.close

---Connects and logs in, as `kiln.ssh.connect`. A resumed run connects again when it needs to.
---@async
---@param opts kiln.ssh.ConnectOptions|string
---@return kiln.Host|kiln.ssh.Session
function ssh_host.connect(opts)
  if type(opts) == "string" then opts = { host = opts, config = true } end
  local state = scope.state()
  local run = state.run
  if state.operation or not run then
    scope.check_loaded "kiln.ssh.connect"
    return ssh.connect(opts)
  end
  if type(opts.key) == "string" then secret.remember(opts.key) end
  local id = ("%s%s%s"):format(opts.user and opts.user .. "@" or "", tostring(opts.host),
    opts.port and ":" .. opts.port or "")
  local self = setmetatable({ on = run, id = id, name = opts.name or opts.host, opts = opts }, Host)
  local row = op.call {
    name = "connect to " .. id, class = "read", quiet = true,
    args = { host = opts.host, port = opts.port, user = opts.user },
    perform = function()
      local session = sessions.of(self, opts.within)
      return { host = session.host, notes = session.notes }
    end,
  }
  self.host, self.notes = row.host, row.notes
  return self
end

signature.class("host", Host)

return ssh_host
