---Prism as a validating proxy (npm `@stoplight/prism-cli`) between a client and a function.
local fs = require "rt.fs"
local http = require "kiln.http"
local httpd = require "kiln.httpd"
local npm = require "spec.support.npm"
local probe = require "kiln.probe"
local proc = require "rt.proc"
local sh = require "kiln.sh"

local prism = {}

local description = assert(fs.cwd()) .. "/spec/foreign/digitalocean-openapi.json"

---@class spec.Prism
---@field url string
local Prism = {}
Prism.__index = Prism
Prism.__close = function(self) self:close() end

---A port that was free a moment ago.
local function free_port()
  local server <close> = httpd.serve { handler = function() return {} end }
  return server.port
end

---Starts one; it may take a minute on a loaded machine.
---@async
---@param answer fun(request: table): table? what lies behind it; nil hangs up
---@param opts? { errors: boolean? } refuses what violates the description, instead of saying so in
---  the header sl-violations (false)
---@return spec.Prism? prism
---@return string? reason why there is none
function prism.start(answer, opts)
  local root, reason = npm.install("@stoplight/prism-cli", "5.14.2")
  if not root then return nil, reason end
  local self = setmetatable({}, Prism)
  self.upstream = httpd.serve {
    handler = function(request)
      local given = answer(request)
      if not given then return { hang_up = true } end
      local headers = { Connection = "close" } -- a kept one would be a leak of the test it is in
      for name, value in pairs(given.headers) do headers[name] = value end
      return { status = given.status, headers = headers, body = given.body }
    end,
  }
  local port = free_port()
  local words = { root .. "/node_modules/.bin/prism", "proxy", description, self.upstream.url,
    "-h", "127.0.0.1", "-p", tostring(port) }
  if opts and opts.errors then words[#words + 1] = "--errors" end
  -- Its log is not read: a read that waits for it would hold virtual time.
  self.child = assert(proc.start {
    argv = { "sh", "-c", "exec " .. sh.join(words) .. " >/dev/null 2>&1" }, timeout = 0,
  })
  self.url = "http://127.0.0.1:" .. port
  probe.tcp { host = "127.0.0.1", port = port, within = 90 }
  -- The first request opens what libcurl and both servers keep.
  http.request { url = self.url .. "/v2/account", check = false, attempts = 1, timeout = 60,
    headers = { Authorization = "Bearer any" }, fresh_connection = true }
  return self
end

---Ends it.
---@async
function Prism:close()
  self.child:kill "TERM"
  self.child:wait()
  self.child:close()
  self.upstream:close()
end

return prism
