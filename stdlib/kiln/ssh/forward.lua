---Ports that lead through a machine: from here to what only the machine sees, or from the machine
---to what only this host sees. Each has a connection of its own, so that a far port that does not
---answer never holds up commands.
local signature = require "kiln.engine.signature"
local dial = require "kiln.ssh.dial"
local error_ = require "kiln.error"

local forward = {}

---@class kiln.ssh.ForwardOptions
---@field to_port integer where each connection leads
---@field to_host? string name or address, as seen from that side ("127.0.0.1")
---@field port? integer to listen on (0: any that is free)
---@field host? string address to listen on ("127.0.0.1")

---A port that leads through a machine.
---@class kiln.ssh.Forward
---@field host string address that is listened on
---@field port integer
---@field private rt rt.ssh.Forward
---@field private session rt.ssh.Session
local Forward = {}
Forward.__index = Forward
Forward.__name = "kiln.ssh.Forward"

---Tells why the last connection failed that did; nil if none has.
---@return kiln.Error? err `unreachable` (nothing answers there), `denied` (the sshd forbids it)
function Forward:failure()
  local err = self.rt:failure()
  return err and error_.from(err)
end

---Stops listening and ends the connections through it. May run twice.
function Forward:close()
  self.rt:close()
  self.session:close()
end

Forward.__close = Forward.close

local function open(made, method, opts)
  local session = dial.again(made)
  local port, err = session[method](session, opts)
  if not port then
    session:close()
    error(error_.from(err), 0)
  end
  return setmetatable({
    host = opts.host or "127.0.0.1", port = port:port(), rt = port, session = session,
  }, Forward)
end

---Listens here; each connection goes on as the machine sees the target.
---Raises `exists`, `denied`, `io` (the port cannot be had), `unreachable`, `timeout`.
---@async
---@param made kiln.ssh.Made
---@param opts kiln.ssh.ForwardOptions
---@return kiln.ssh.Forward
function forward.here(made, opts)
  return open(made, "forward", opts)
end

---Has the machine listen; each connection leads to a target as it is seen from here.
---Raises `denied` (the port is taken, or the sshd forbids it), `unreachable`, `timeout`.
---@async
---@param made kiln.ssh.Made
---@param opts kiln.ssh.ForwardOptions
---@return kiln.ssh.Forward
function forward.there(made, opts)
  return open(made, "listen", opts)
end

signature.class("forward", Forward)

return forward
