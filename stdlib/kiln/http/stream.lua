---Requests whose bodies come from a function or go to one, and files fetched with them.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local rt_http = require "rt.http"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local policy = require "kiln.http.policy"
local scope = require "kiln.scope"

local stream = {}

local KEPT = 64 * 1024 * 1024 -- bytes of an answer that `into` does not take

---@class kiln.http.DownloadOptions: kiln.http.Options
---@field sha256? string what the file must have; anything else is raised and removed
---@field mode? string octal text ("0644")

---Sends what the function gives, until it ends or the answer came before it.
local function send_body(exchange, produce)
  while true do
    local bytes = produce()
    if bytes == nil then break end
    local more, err = exchange:write(bytes)
    if more == nil then return nil, err end
    if not more then return true end
  end
  exchange:finish()
  return true
end

local function receive(exchange, opts, response)
  local takes = opts.into and response.status >= 200 and response.status <= 299
  local kept, length = {}, 0
  while true do
    local bytes, err = exchange:read()
    if err then return nil, err end
    if not bytes then break end
    length = length + #bytes
    if takes then
      opts.into(bytes, response)
    elseif length > (opts.max_body or KEPT) then
      return nil, { kind = "limit", effect = "maybe",
        message = ("%s: the response exceeds %d bytes"):format(policy.describe(opts),
          opts.max_body or KEPT) }
    else
      kept[#kept + 1] = bytes
    end
  end
  response.body = table.concat(kept)
  return response
end

---Sends a request whose body or answer is a stream; like `rt.http.request`.
---@async
---@param request rt.http.Request
---@param opts kiln.http.Options
---@return rt.http.Response? response
---@return table? err
function stream.send(request, opts)
  local asked = {}
  for name, value in pairs(request) do asked[name] = value end
  local produce = type(opts.body) == "function" and not request.body and opts.body
  if produce then
    asked.streams, asked.length = true, opts.length
  end
  local started = timer.now()
  local exchange <close>, failed = rt_http.open(asked)
  if not exchange then return nil, failed end
  local response, err
  local function read()
    response, err = exchange:head()
    if response then response, err = receive(exchange, opts, response) end
    if err then exchange:close() end -- who still writes has nobody to write to
  end
  if produce then
    scope.all { function() send_body(exchange, produce) end, read }
  else
    read()
  end
  if response then response.seconds = timer.now() - started end
  return response, err
end

local function failed(path, err)
  local message = tostring(err)
  if message:sub(1, #path) ~= path then message = path .. ": " .. message end
  error_.raise { kind = "io", message = message }
end

---The file that grows: a new one of its own, `bytes` long.
local function open_part(path, mode)
  local self = { bytes = 0 }
  self.path = ("%s.%s.part"):format(path, crypto.hex(crypto.random(8)))
  local function check(done, err)
    if not done then failed(self.path, err) end
    return done
  end
  error_.check(fs.write(self.path, "", { exclusive = true, mode = mode or "0644" }))
  self.file = check(io.open(self.path, "wb"))
  function self.restart()
    self.close()
    self.file = check(io.open(self.path, "wb"))
    self.bytes, self.version = 0, nil
  end
  function self.add(bytes)
    check(self.file:write(bytes))
    self.bytes = self.bytes + #bytes
  end
  function self.close()
    local file = self.file
    self.file = nil
    if file then check(file:close()) end
  end
  return self
end

---Asks for what is missing. A server that has another version, or no parts, sends all again.
local function fetch(request, part, asked)
  local headers = {}
  for name, value in pairs(asked.headers or {}) do headers[name] = value end
  if part.bytes > 0 and part.version then
    headers.Range = ("bytes=%d-"):format(part.bytes)
    headers["If-Range"] = part.version
  end
  local first = true
  asked.headers = headers
  asked.into = function(bytes, head)
    if first then
      first = false
      local range = head.status == 206 and head.headers["content-range"] or ""
      if part.bytes > 0 and tonumber(range:match("^bytes (%d+)%-")) ~= part.bytes then
        part.restart()
      end
      local tag = head.headers.etag
      part.version = tag and not tag:find("^W/") and tag or nil
    end
    part.add(bytes)
  end
  local response = request(asked)
  if first and part.bytes > 0 then part.restart() end -- the file is empty now
  if response.status < 200 or response.status > 299 then
    error_.raise { kind = "status", status = response.status,
      message = ("%s: answered %d, not a file"):format(policy.place(asked.url), response.status) }
  end
end

local function attempts_of(request, part, url, opts)
  local most, pause = opts.attempts or 3, opts.backoff or 0.5
  for count = 1, most do
    local asked = { url = url, compressed = false }
    for name, value in pairs(opts) do asked[name] = value end
    asked.sha256, asked.mode, asked.attempts = nil, nil, 1
    local ok, err = xpcall(fetch, error_.from, request, part, asked)
    if ok then return count end
    local passes = error_.is(err, "unreachable", "timeout", "protocol")
      or err.status == 429 or (err.status or 0) >= 502 and err.status <= 504
    if count == most or not passes then error(err, 0) end
    timer.sleep(math.max(pause, math.min(err.retry_after or 0, opts.retry_after_max or 60)))
    pause = math.min(pause * 2, 30)
  end
end

local function put_in_place(part, path, opts)
  part.close()
  error_.check(fs.sync(part.path))
  local digest = error_.check(crypto.sha256_file(part.path))
  if opts.sha256 and opts.sha256:lower() ~= digest then
    error_.raise { kind = "invalid",
      message = ("%s: the file has the SHA-256 %s, not %s"):format(path, digest, opts.sha256) }
  end
  error_.check(fs.rename(part.path, path))
  error_.check(fs.sync(path:match("^(.*/)[^/]*$") or "."))
  return digest
end

---Gets a file; see `kiln.http.download`.
---@async
---@param request fun(opts: kiln.http.Options): kiln.http.Response
---@param url string|userdata
---@param path string
---@param opts kiln.http.DownloadOptions
---@return { bytes: integer, sha256: string, attempts: integer }
function stream.download(request, url, path, opts)
  local part = open_part(path, opts.mode)
  local ok, result = xpcall(function()
    local count = attempts_of(request, part, url, opts)
    return { bytes = part.bytes, attempts = count, sha256 = put_in_place(part, path, opts) }
  end, error_.from)
  if ok then return result end
  if part.file then part.file:close() end -- what it still held is thrown away
  local removed, err = fs.remove(part.path)
  if not removed then
    result.message = ("%s (and %s is left: %s)"):format(result.message, part.path, err.message)
  end
  error(result, 0)
end

return stream
