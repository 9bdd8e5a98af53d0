---A web server for a spec: answers every request with what a function returns; ends with its block,
---and the kept connections to it with it, so that the leak guard sees none.
local http = require "rt.http"
local httpd = require "rt.httpd"
local task = require "rt.task"

local web = {}

---@class spec.Web
---@field url string
---@field port integer
---@field server rt.httpd.Server
---@field seen rt.httpd.Request[] every request, in order
local Web = {}
Web.__index = Web

---Starts one.
---@param answer fun(request: rt.httpd.Request, count: integer): table|false? options of `respond`
---  (false: hangs up; nil: no answer)
---@return spec.Web
function web.start(answer)
  local server = assert(httpd.listen())
  local port = server:port()
  local self = setmetatable({
    server = server, port = port, url = ("http://127.0.0.1:%d/"):format(port), seen = {},
  }, Web)
  self.task = task.spawn(function()
    while true do
      local request = server:accept()
      if not request then return end
      table.insert(self.seen, request)
      task.spawn(function()
        local guarded <close> = request
        local response = answer(request, #self.seen)
        if response == false then request:hang_up() end
        if response then guarded:respond(response) end
      end)
    end
  end)
  return self
end

---Stops it. May run twice.
---@async
function Web:close()
  self.server:close()
  self.task:join()
  http.forget()
end

Web.__close = Web.close

return web
