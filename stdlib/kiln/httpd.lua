---An HTTP server whose requests are answered by a function: for simulators, dashboards, hooks.
---
---It listens on loopback unless told otherwise. A handler runs in a task of its own and may wait;
---its error is a 500 for the peer and an entry in the log, never the end of the server.
local log = require "rt.log"
local rt_httpd = require "rt.httpd"
local task = require "rt.task"
local timer = require "rt.timer"
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local trace = require "kiln.trace"

local httpd = {}

---@class kiln.httpd.Request
---@field method string
---@field target string as it was sent: path and query, not decoded
---@field path string percent-decoded, without the query
---@field query table<string, string> percent-decoded; the first of a repeated name
---@field headers table<string, string> lower-case names; repeated ones are joined by ", "
---@field body string
---@field peer string "127.0.0.1:43210"; empty for a unix socket
---@field params? table<string, string> what `httpd.routes` found in the path

---@class kiln.httpd.Response
---@field status? integer (200)
---@field headers? table<string, string>
---@field body? string|userdata|fun(write: fun(bytes: string|userdata)) text, a secret ("") or a
---  function that writes a stream; `write` waits while the peer is slow
---@field file? string path of a file to send
---@field events? fun(send: fun(event: string|kiln.httpd.Event)) writes server-sent events
---@field hang_up? boolean ends the connection without an answer (false)

---@class kiln.httpd.Event
---@field data string
---@field event? string its kind
---@field id? string what a client that comes back names as Last-Event-ID
---@field retry? integer milliseconds after which a client shall come back

---@class kiln.httpd.Options: rt.httpd.ListenOptions
---@field handler fun(request: kiln.httpd.Request): kiln.httpd.Response
---@field heartbeat? number seconds between two comments in a stream of events, which show that the
---  peer has gone (15)
---@field log? fun(text: string) gets what went wrong in a handler (standard error)

---@class kiln.httpd.Server
---@field url string "http://127.0.0.1:8080", without a slash at the end
---@field port integer
local Server = {}
Server.__index = Server
Server.__close = function(self) self:close() end

local function plain(request)
  local copy = {}
  for _, name in ipairs { "method", "target", "path", "query", "headers", "body", "peer" } do
    copy[name] = request[name]
  end
  return copy
end

---Sends what `produce` writes. The end of the stream is only said when it ended well.
local function send_stream(request, response, produce)
  request:start { status = response.status, headers = response.headers }
  if request.method ~= "HEAD" then
    produce(function(bytes) error_.check(request:write(bytes)) end)
  end
  request:finish()
end

---An event as the HTML standard's "Server-sent events" has it.
local function encode_event(event)
  if type(event) ~= "table" then event = { data = tostring(event) } end
  local lines = {}
  for _, name in ipairs { "event", "id", "retry" } do
    local value = event[name]
    if value ~= nil then
      value = tostring(value)
      if value:find("[\r\n\0]") then error(("an event's %s has a line break"):format(name), 0) end
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  local data = tostring(event.data or ""):gsub("\r\n?", "\n")
  for line in (data .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = "data: " .. line end
  return table.concat(lines, "\n") .. "\n\n"
end

---Writes a comment now and then while the handler does not write, and cancels the handler once
---nobody takes it. `turn.beat` is the task that writes one.
local function start_heartbeat(write, seconds, turn)
  local handler = task.current()
  return task.spawn(function()
    while true do
      timer.sleep(seconds)
      if not turn.taken then
        turn.beat = task.spawn(write, ":\n\n")
        local ok, err = turn.beat:join()
        turn.beat = nil
        if not ok then
          handler:cancel(err)
          return
        end
      end
    end
  end)
end

local function send_events(self, request, response)
  local headers = { ["Content-Type"] = "text/event-stream", ["Cache-Control"] = "no-store" }
  for name, value in pairs(response.headers or {}) do headers[name] = value end
  send_stream(request, { status = response.status, headers = headers }, function(write)
    local turn = {}
    local beat = start_heartbeat(write, self.heartbeat, turn)
    local stop <close> = setmetatable({}, {
      __close = function()
        beat:cancel()
        beat:join()
        if turn.beat then turn.beat:cancel() end
      end,
    })
    response.events(function(event)
      turn.taken = stop
      if turn.beat then turn.beat:join() end
      write(encode_event(event))
      turn.taken = nil
    end)
  end)
end

local function reply(self, request, response)
  if type(response) ~= "table" then
    error(("the handler returned a %s, not a response"):format(type(response)), 0)
  end
  if response.hang_up then
    request:hang_up()
  elseif response.events then
    send_events(self, request, response)
  elseif type(response.body) == "function" then
    send_stream(request, response, response.body)
  else
    error_.check(request:respond {
      status = response.status, headers = response.headers, body = response.body,
      file = response.file,
    })
  end
end

local function answer(self, request)
  local guarded <close> = request
  local ok, err = xpcall(function()
    reply(self, guarded, self.handler(plain(guarded)))
  end, trace.handler)
  -- A peer that left while it was written to is no fault of the handler.
  if ok or err.kind == "cancelled" or err.kind == "unreachable" and not guarded:is_open() then
    return
  end
  local fault = err.kind == "error" and not err.at -- of kiln's own
  self.log(("%s %s: the handler failed: %s%s"):format(request.method, request.path, err.message,
    fault and err.traceback or ""))
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
  local scheme = opts.cert and "https" or "http"
  if opts.unix_socket then return scheme .. "://localhost" end
  local host = opts.host or "127.0.0.1"
  return ("%s://%s:%d"):format(scheme, host:find(":", 1, true) and "[" .. host .. "]" or host, port)
end

---Starts a server; it answers while its block lives, or until `close`.
---Raises `exists` (the port is taken), `denied`, `invalid`, `limit`, `tls`, `usage`.
---@param opts kiln.httpd.Options
---@return kiln.httpd.Server server
function httpd.serve(opts)
  local listen = {}
  for name, value in pairs(opts) do listen[name] = value end
  listen.handler, listen.log, listen.heartbeat = nil, nil, nil
  if type(opts.handler) ~= "function" then
    error_.raise { kind = "usage", message = "httpd.serve: option 'handler' must be a function" }
  end
  local server = error_.check(rt_httpd.listen(listen))
  local self = setmetatable({
    rt = server, port = server:port(), running = {},
    handler = opts.handler, log = opts.log or log.error, heartbeat = opts.heartbeat or 15,
  }, Server)
  self.url = url_of(opts, self.port)
  self.task = task.spawn(accept_all, self)
  return self
end

local function compile_route(key)
  local method, path = key:match("^(%u+) (/%S*)$")
  if not method then
    error_.raise { kind = "usage", message = ("no route: '%s'; write \"GET /a/:b\""):format(key) }
  end
  local names = {}
  local pattern = path:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("([:*])([%w_]*)",
    function(mark, name)
      names[#names + 1] = name ~= "" and name or "rest"
      return mark == ":" and "([^/]+)" or "(.*)"
    end)
  local fixed = #path:gsub("[:*][%w_]*", "")
  return { method = method, names = names, pattern = "^" .. pattern .. "$", fixed = fixed }
end

---Finds the route for a method; the methods that the path has come second.
local function find_route(routes, method, path)
  local allowed = {}
  for _, route in ipairs(routes) do
    local found = { path:match(route.pattern) }
    if found[1] ~= nil then
      if route.method == method then return route, found end
      allowed[route.method] = true
    end
  end
  return nil, allowed
end

local function refuse_method(allowed)
  if allowed.GET then allowed.HEAD = true end
  local list = {}
  for method in pairs(allowed) do list[#list + 1] = method end
  table.sort(list)
  if #list == 0 then return { status = 404, body = "not found\n" } end
  return { status = 405, headers = { Allow = table.concat(list, ", ") },
    body = "method not allowed\n" }
end

---Makes a handler of several: `["GET /machines/:id"] = function(request) … end`. `:name` takes one
---part of the path and `*name` all the rest; both are in `request.params`. The route with the most
---fixed text wins. HEAD is answered by GET's handler; an unknown path is a 404, a known one with
---another method a 405 that names the methods.
---@param handlers table<string, fun(request: kiln.httpd.Request): kiln.httpd.Response>
---@return fun(request: kiln.httpd.Request): kiln.httpd.Response
function httpd.routes(handlers)
  local routes = {}
  for key, handler in pairs(handlers) do
    local route = compile_route(key)
    route.handler, route.key = handler, key
    routes[#routes + 1] = route
  end
  table.sort(routes, function(a, b)
    if a.fixed ~= b.fixed then return a.fixed > b.fixed end
    return a.key < b.key
  end)
  return function(request)
    local route, found = find_route(routes, request.method, request.path)
    if not route and request.method == "HEAD" then
      route, found = find_route(routes, "GET", request.path)
    end
    if not route then return refuse_method(found) end
    request.params = {}
    for index, name in ipairs(route.names) do request.params[name] = found[index] end
    return route.handler(request)
  end
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

signature.class("server", Server)

return httpd
