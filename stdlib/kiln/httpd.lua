---An HTTP server whose requests are answered by a function: for simulators, dashboards, hooks.
---
---It listens on loopback unless told otherwise. A handler runs in a task of its own and may wait;
---its error is a 500 for the peer and an entry in the log, never the end of the server.
local log = require "rt.log"
local rt_httpd = require "rt.httpd"
local task = require "rt.task"
local error_ = require "kiln.error"

local httpd = {}

---@class kiln.httpd.Request
---@field method string
---@field path string percent-decoded, without the query
---@field query table<string, string> percent-decoded; the first of a repeated name
---@field headers table<string, string> lower-case names; repeated ones are joined by ", "
---@field body string

---@class kiln.httpd.Response
---@field status? integer (200)
---@field headers? table<string, string>
---@field body? string|userdata text or a secret ("")
---@field hang_up? boolean ends the connection without an answer (false)

---@class kiln.httpd.Options: rt.httpd.ListenOptions
---@field handler fun(request: kiln.httpd.Request): kiln.httpd.Response
---@field log? fun(text: string) gets what went wrong in a handler (standard error)

---@class kiln.httpd.Server
---@field url string "http://127.0.0.1:8080", without a slash at the end
---@field port integer
local Server = {}
Server.__index = Server
Server.__close = function(self) self:close() end

local function plain(request)
  return {
    method = request.method, path = request.path, query = request.query,
    headers = request.headers, body = request.body,
  }
end

local function reply(request, response)
  if type(response) ~= "table" then
    error(("the handler returned a %s, not a response"):format(type(response)), 0)
  end
  if response.hang_up then
    request:hang_up()
    return
  end
  request:respond {
    status = response.status, headers = response.headers, body = response.body,
  }
end

local function answer(self, request)
  local guarded <close> = request
  local ok, err = xpcall(function() reply(guarded, self.handler(plain(guarded))) end, function(err)
    err = error_.from(err)
    err.traceback = err.traceback or debug.traceback("", 2)
    return err
  end)
  if ok or err.kind == "cancelled" then return end
  self.log(("%s %s: the handler failed: %s%s"):format(request.method, request.path, err.message,
    err.traceback))
end

---Gives requests to tasks until the server closes, then ends the tasks.
local function accept_all(self)
  while true do
    local request = self.rt:accept()
    if not request then break end
    local one
    one = task.spawn(function()
      answer(self, request)
      self.running[one] = nil
    end)
    self.running[one] = true
  end
  for one in pairs(self.running) do one:cancel() end
  while next(self.running) do
    local one = next(self.running)
    one:join()
    self.running[one] = nil
  end
end

local function url_of(opts, port)
  if opts.unix_socket then return "http://localhost" end
  local host = opts.host or "127.0.0.1"
  return ("http://%s:%d"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, port)
end

---Starts a server; it answers while its block lives, or until `close`.
---Raises `exists` (the port is taken), `denied`, `invalid`, `limit`, `usage`.
---@param opts kiln.httpd.Options
---@return kiln.httpd.Server server
function httpd.serve(opts)
  local listen = {}
  for name, value in pairs(opts) do listen[name] = value end
  listen.handler, listen.log = nil, nil
  if type(opts.handler) ~= "function" then
    error_.raise { kind = "usage", message = "httpd.serve: option 'handler' must be a function" }
  end
  local server = error_.check(rt_httpd.listen(listen))
  local self = setmetatable({
    rt = server, port = server:port(), running = {},
    handler = opts.handler, log = opts.log or log.error,
  }, Server)
  self.url = url_of(opts, self.port)
  self.task = task.spawn(accept_all, self)
  return self
end

---Waits until the server has closed: for a program that does nothing but serve.
---@async
function Server:wait()
  local ok, err = self.task:join()
  if not ok then error(error_.from(err), 0) end
end

---Ends the server, its connections and the handlers that still run, and waits for them. May run
---twice.
---@async
function Server:close()
  self.rt:close()
  self:wait()
end

return httpd
