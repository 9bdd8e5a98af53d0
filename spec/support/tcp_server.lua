---Starts spec/support/tcp_server.c: a server that answers every connection wrongly.
local tcp_server = {}

---@class spec.TcpServer
---@field port integer
---@field url string
local TcpServer = {}
TcpServer.__index = TcpServer

local function program()
  local pipe = assert(io.popen("dirname $(readlink /proc/$PPID/exe)"))
  local folder = pipe:read("l")
  pipe:close()
  return folder .. "/tcp_server"
end

---Starts one.
---@param mode "close"|"read-close"|"stall"|"answer"|"once"
---@param text? string what it writes
---@return spec.TcpServer
function tcp_server.start(mode, text)
  text = (text or ""):gsub("\r", "\\r"):gsub("\n", "\\n")
  local pipe = assert(io.popen(("exec %s %s '%s'"):format(program(), mode, text)))
  local port = assert(math.tointeger(tonumber(pipe:read("l"))), "tcp_server does not start")
  return setmetatable({
    pipe = pipe, port = port, url = ("http://127.0.0.1:%d/path"):format(port),
  }, TcpServer)
end

---Waits until it has read a request; blocks the loop, so only after the request must have come.
function TcpServer:request()
  assert(self.pipe:read("l") == "request")
end

---Stops it. May run twice.
function TcpServer:close()
  if self.pipe then self.pipe:close() end
  self.pipe = nil
end

TcpServer.__close = TcpServer.close

return tcp_server
