---Starts spec/support/tcp_server.c: a server that answers every connection wrongly.
local http = require "rt.http"
local proc = require "rt.proc"

local tcp_server = {}

---@class spec.TcpServer
---@field port integer
---@field url string
local TcpServer = {}
TcpServer.__index = TcpServer

---Starts one.
---@async
---@param mode "close"|"read-close"|"stall"|"answer"|"headers"|"early"|"once"
---@param text? string what it writes
---@return spec.TcpServer
function tcp_server.start(mode, text)
  local program = proc.info().exe:match("^(.*)/") .. "/tcp_server"
  text = (text or ""):gsub("\r", "\\r"):gsub("\n", "\\n")
  local child = assert(proc.start { argv = { program, mode, text } })
  local port = assert(math.tointeger(tonumber((child:read_line()))), "tcp_server does not start")
  return setmetatable({
    child = child, port = port, url = ("http://127.0.0.1:%d/path"):format(port),
  }, TcpServer)
end

---Waits until it has read a request.
---@async
function TcpServer:request()
  assert(self.child:read_line() == "request")
end

---Stops it, and the client's kept connections. May run twice.
---@async
function TcpServer:close()
  if not self.child then return end
  self.child:kill("KILL")
  self.child:wait()
  self.child = nil
  http.forget()
end

TcpServer.__close = TcpServer.close

return tcp_server
