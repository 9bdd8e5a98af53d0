---HTTP requests that raise, with JSON and a bounded retry.
---
---A request is repeated only where that cannot do the same thing twice: when nothing of it was
---sent, when its method is idempotent (RFC 9110, section 9.2.2), or when the server refused it for
---its rate limit. Everything else is raised with `effect = "maybe"` for the caller to look up.
local json = require "rt.json"
local rt_http = require "rt.http"
local timer = require "rt.timer"
local error_ = require "kiln.error"

local http = {}

---@class kiln.http.Options: rt.http.Request
---@field query? table<string, string|number|boolean> added to the URL
---@field json? any sent as the body, as application/json
---@field check? boolean raise for a status of 400 and above (true)
---@field attempts? integer at most (3)
---@field backoff? number seconds before the second attempt; doubled for each one after it (0.5)
---@field retry_after_max? number seconds of the server's Retry-After that are waited for (60)

---@class kiln.http.Response
---@field status integer
---@field headers table<string, string> lower-case names
---@field body string
---@field seconds number of the last attempt
---@field attempts integer
local Response = {}
Response.__index = Response

local idempotent = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true }
local own_options = {
  query = true, json = true, check = true, attempts = true, backoff = true, retry_after_max = true,
}

---Writes text so that it can stand in a URL (RFC 3986, section 2.3).
---@param text string|number|boolean
---@return string
function http.escape(text)
  return (tostring(text):gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local function with_query(url, query)
  local names, parts = {}, {}
  for name in pairs(query) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    parts[#parts + 1] = http.escape(name) .. "=" .. http.escape(query[name])
  end
  if #parts == 0 then return url end
  return url .. (url:find("?", 1, true) and "&" or "?") .. table.concat(parts, "&")
end

---Names a request in messages: no query, no user.
local function describe(request)
  local url = request.url:gsub("[?#].*$", ""):gsub("^(%a+://)[^/]*@", "%1")
  return (request.method or "GET") .. " " .. url
end

local function rt_request(opts)
  local request = {}
  for name, value in pairs(opts) do
    if not own_options[name] then request[name] = value end
  end
  if opts.query then request.url = with_query(request.url, opts.query) end
  if opts.json ~= nil then
    if opts.body then error("option 'json' or 'body', not both", 3) end
    local headers = { ["Content-Type"] = "application/json", Accept = "application/json" }
    for name, value in pairs(opts.headers or {}) do
      for own in pairs(headers) do
        if own:lower() == name:lower() then headers[own] = nil end
      end
      headers[name] = value
    end
    request.body = json.encode(opts.json)
    request.headers = headers
  end
  return request
end

---Whether a failed attempt may be repeated.
local function may_repeat(request, err)
  if err.kind == "tls" or err.kind == "invalid" or err.kind == "unsupported"
    or err.kind == "limit" then return false end
  return err.effect == "none" or idempotent[request.method or "GET"] == true
end

---Whether an answer asks for another attempt, and after how many seconds at least. A 429 was not
---acted upon (RFC 6585, section 4); after a 502, 503 or 504 something may have happened.
local function asks_again(request, response)
  local status = response.status
  local refused = status == 429
  local failed = status == 502 or status == 503 or status == 504
  if not refused and not (failed and idempotent[request.method or "GET"]) then return false end
  return true, tonumber(response.headers["retry-after"]) or 0
end

local function attempt(request, opts)
  local pause = opts.backoff or 0.5
  local most = opts.attempts or 3
  for count = 1, most do
    local response, err = rt_http.request(request)
    local again, wait
    if response then
      response.attempts = count
      again, wait = asks_again(request, response)
      again = again and wait <= (opts.retry_after_max or 60)
    else
      err.attempts = count
      again = may_repeat(request, err)
    end
    if count == most or not again then return response, err end
    timer.sleep(math.max(pause, wait or 0))
    pause = math.min(pause * 2, 30)
  end
end

local kinds = { [401] = "auth", [403] = "denied", [404] = "not_found", [410] = "not_found",
  [429] = "limit" }

---Makes the start of an answer fit for one line and for a journal.
---@param body string
---@param bytes? integer (200)
---@return string
function http.excerpt(body, bytes)
  bytes = bytes or 200
  local text = body:sub(1, bytes)
  local length, bad = utf8.len(text)
  if not length and #body > bytes and bad > #text - 4 then
    text = text:sub(1, bad - 1) -- a character that was cut off
  end
  if not utf8.len(text) then text = text:gsub("[\128-\255]", "?") end
  text = text:gsub("%c+", " "):gsub("^ +", ""):gsub(" +$", "")
  return #body > bytes and text .. "…" or text
end

local function check_status(request, response)
  if response.status < 400 then return end
  local body = http.excerpt(response.body)
  error_.raise {
    kind = kinds[response.status] or "status", status = response.status, body = body,
    message = ("%s: answered %d%s"):format(describe(request), response.status,
      body ~= "" and ": " .. body or ""),
  }
end

---Sends a request, again if that is safe, and gives the answer.
---Raises `unreachable`, `timeout`, `tls`, `protocol`, `limit`, `invalid`, `unsupported` with
---`effect` and `attempts`; for a status of 400 and above `auth` (401), `denied` (403), `not_found`
---(404, 410), `limit` (429) or `status`, with `status` and the start of the `body`.
---@async
---@param opts kiln.http.Options
---@return kiln.http.Response
function http.request(opts)
  local request = rt_request(opts)
  local response = error_.check(attempt(request, opts))
  if opts.check ~= false then check_status(request, response) end
  return setmetatable(response, Response)
end

local function shorthand(method, url, opts)
  local request = { method = method, url = url }
  for name, value in pairs(opts or {}) do request[name] = value end
  return http.request(request)
end

---Sends a GET; as `http.request`.
---@async
---@param url string
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.get(url, opts)
  return shorthand("GET", url, opts)
end

---Sends a POST; as `http.request`.
---@async
---@param url string
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.post(url, opts)
  return shorthand("POST", url, opts)
end

---Sends a PUT; as `http.request`.
---@async
---@param url string
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.put(url, opts)
  return shorthand("PUT", url, opts)
end

---Sends a DELETE; as `http.request`.
---@async
---@param url string
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.delete(url, opts)
  return shorthand("DELETE", url, opts)
end

---Finds the version that an answer names: `version` of its JSON object, or the header X-Version or
---X-App-Version.
---@param response rt.http.Response
---@return string? version
function http.version(response)
  local body = response.body:find("^%s*{") and json.decode(response.body)
  local version = type(body) == "table" and body.version
  if type(version) == "string" or type(version) == "number" then return tostring(version) end
  return response.headers["x-version"] or response.headers["x-app-version"]
end

---Reads the body as JSON. Raises `protocol` when it is none.
---@return any
function Response:json()
  local value, err = json.decode(self.body)
  if err then
    error_.raise {
      kind = "protocol", status = self.status,
      message = ("the answer is no JSON (%s): %s"):format(err.message, http.excerpt(self.body)),
    }
  end
  return value
end

return http
