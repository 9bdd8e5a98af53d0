---Requests to DigitalOcean's API: what their answers mean, which may be sent again, how fast.
---
---Sources: https://docs.digitalocean.com/reference/api/ (errors, pagination, rate limits); the
---description of the API, https://github.com/digitalocean/openapi.
local error_ = require "kiln.error"
local http = require "kiln.http"
local json = require "kiln.json"
local secret = require "kiln.secret"
local ticker = require "kiln.ticker"
local answers = require "providers.digitalocean.answers"

local api = {}

---@class kiln.digitalocean.Api
---@field private url string
---@field private authorization userdata
---@field private send fun(request: table): table
---@field requests integer how many were sent
local Api = {}
Api.__index = Api

local per_page = 200 -- the most that a page may have
local per_minute = 250 -- requests, the API's burst limit
local repeatable = { GET = true, PUT = true, DELETE = true }

---Makes the client.
---@param opts { url: string, token: userdata, source: string, send: (fun(request: table): table)? }
---  `send` takes { method, url, headers, body } and gives { status, headers, body }; raises
---  `unreachable` or `timeout` with `effect`
---@return kiln.digitalocean.Api
function api.new(opts)
  return setmetatable({
    url = opts.url, source = opts.source, send = opts.send or http.request, requests = 0, sent = {},
    authorization = secret.join("Bearer ", opts.token), left = math.huge, limit = 5000,
  }, Api)
end

---Notes what the answer says about the rate limit: 5,000 requests an hour, each one expiring by
---itself, and 250 a minute.
local function note_limit(self, headers)
  self.left = tonumber(headers["ratelimit-remaining"]) or self.left
  self.limit = tonumber(headers["ratelimit-limit"]) or self.limit
end

---Seconds that looks must keep apart: none while there is plenty; as the hour's requests go, so far
---apart that a tenth of them stays for others; a little when the last minute had many.
---@return number
function Api:slower()
  local now, minute = ticker.now(), 0
  for at = #self.sent, 1, -1 do
    if now - self.sent[at] > 60 then break end
    minute = minute + 1
  end
  local least = minute > 0.6 * per_minute and 60 / (per_minute - minute + 1) or 0
  if self.left / self.limit > 0.5 then return least end
  local spare = self.left - self.limit / 10
  return math.max(least, spare > 0 and math.min(3600 / spare, 120) or 120)
end

local function decoded(response)
  if response.body == "" then return nil end
  local ok, value = pcall(json.decode, response.body)
  return ok and type(value) == "table" and value or nil
end

---Sentences of the API that say: not now, something else is going on.
local busy_words = { "pending event", "processes previous actions", "please try again",
  "being processed" }

local function kind_of(status, message)
  local text = message:lower()
  if status >= 500 then return "unreachable" end
  for _, words in ipairs(busy_words) do
    if text:find(words, 1, true) then return "busy" end
  end
  if status == 401 then return "auth" end
  if status == 403 then return "denied" end
  if status == 404 or status == 410 then return "not_found" end
  if status == 429 or text:find("exceed your", 1, true) or text:find("limit", 1, true) then
    return "limit"
  end
  return status == 409 and "exists" or "invalid"
end

local function refusal(self, request, response)
  local answer = decoded(response)
  local said = answer and type(answer.message) == "string" and answer.message
    or http.excerpt(response.body)
  local kind = kind_of(response.status, said)
  local message = ("DigitalOcean: %s %s: %d %s"):format(request.method, request.path,
    response.status, said)
  if kind == "auth" then
    message = ("DigitalOcean refuses the token from %s: %s"):format(self.source, said)
  end
  return error_.new {
    kind = kind, message = message, status = response.status, said = said,
    cloud = (kind == "auth" or kind == "denied") and "digitalocean" or nil,
    effect = response.status >= 500 and "maybe" or "none",
    retry_after = tonumber(response.headers["retry-after"]),
  }
end

---Quotes a gateway's page. An answer that was cut off is not quoted: it may be secret.
local function lacks_json(body)
  local cut = body:find("^%s*[%[{]") or body == ""
  return cut and "without whole JSON" or "without JSON: " .. http.excerpt(body)
end

---Sends once. A success that does not have what was asked for is as good as no answer.
local function send_once(self, request)
  self.requests = self.requests + 1
  self.sent[#self.sent + 1] = ticker.now()
  if #self.sent > 2 * per_minute then
    self.sent = table.move(self.sent, #self.sent - per_minute, #self.sent, 1, {})
  end
  local response = self.send {
    method = request.method, url = self.url .. request.path, body = request.body,
    headers = {
      Authorization = self.authorization, Accept = "application/json",
      ["Content-Type"] = request.body and "application/json" or nil,
    },
    check = false, attempts = 1, timeout = 60,
  }
  note_limit(self, response.headers)
  if response.status >= 400 then error(refusal(self, request, response), 0) end
  local value = decoded(response) or response.status == 204
  if value and request.any then return value end
  local problem = not value and lacks_json(response.body)
    or answers.problem(request.method, request.path, value)
  if problem then
    error_.raise { kind = "unreachable", effect = "maybe",
      message = ("DigitalOcean answered %d to %s %s %s"):format(response.status, request.method,
        request.path, problem) }
  end
  return answers.without_nulls(value)
end

---Whether an attempt may be repeated, and after how many seconds at least.
local function again(request, err)
  if err.status == 429 then return true, err.retry_after or 5 end -- not acted upon
  if not error_.is(err, "unreachable", "timeout", "protocol") then return false end
  return err.effect == "none" or request.safe or repeatable[request.method] == true,
    err.retry_after or 0
end

---Sends a request; again where that cannot do the same thing twice, or when the rate limit refused
---it. Raises `auth`, `denied`, `not_found`, `invalid`, `limit`, `busy` (another event is going on),
---`unreachable` and `timeout` with `effect = "maybe"` for a POST that may have been acted upon.
---@async
---@param method string
---@param path string "/v2/droplets", with its query
---@param body? table
---@param opts? { within: number?, safe: boolean?, any: boolean? } seconds of repetition (120); a
---  POST that may be sent twice, because it says how things shall be (false); any JSON will do as
---  an answer (false)
---@return table|boolean answer true for one without a body
function Api:call(method, path, body, opts)
  opts = opts or {}
  if (path:gsub("%?.*", "") .. "/"):find("/%.%.?/") then -- HTTP clients take it for another path
    error_.raise { kind = "invalid",
      message = ("DigitalOcean: the path %s leads elsewhere"):format(path) }
  end
  local request = {
    method = method, path = path, body = body and json.encode(body), safe = opts.safe or false,
    any = opts.any or false,
  }
  local deadline = ticker.now() + (opts.within or 120)
  local pause = 0.5
  while true do
    local ok, result = xpcall(send_once, error_.from, self, request)
    if ok then return result end
    local may, wait = again(request, result)
    wait = math.max(wait or 0, pause)
    if not may or ticker.now() + wait > deadline then error(result, 0) end
    ticker.pause(wait)
    pause = math.min(pause * 2, 15)
  end
end

---Reads what may not be there: nil then.
---@async
---@param path string
---@return table?
function Api:find(path)
  local ok, result = xpcall(self.call, error_.from, self, "GET", path)
  if ok then return result end
  if error_.is(result, "not_found") then return nil end
  error(result, 0)
end

---Deletes; what is gone already is fine. Waits while something else is going on with it.
---@async
---@param path string
function Api:delete(path)
  local ok, err = xpcall(self.serial, error_.from, self, "DELETE", path)
  if not ok and not error_.is(err, "not_found") then error(err, 0) end
end

---Sends a request that has to wait its turn: the API lets one event happen to a thing at a time.
---@async
---@param method string
---@param path string
---@param body? table
---@param opts? { within: number?, safe: boolean? } as `call`; seconds (120)
---@return table|boolean answer
function Api:serial(method, path, body, opts)
  local deadline = ticker.now() + (opts and opts.within or 120)
  while true do
    local ok, result = xpcall(self.call, error_.from, self, method, path, body, opts)
    if ok then return result end
    if not error_.is(result, "busy") or ticker.now() >= deadline then error(result, 0) end
    ticker.pause(1)
  end
end

---Reads every page of a list.
---@async
---@param path string "/v2/images?private=true"
---@param key string the list's name in the answer: "images"
---@return table[]
function Api:list(path, key)
  local rows = {}
  local next_path = path .. (path:find("?", 1, true) and "&" or "?") .. "per_page=" .. per_page
  while next_path do
    local answer = self:call("GET", next_path)
    table.move(answer[key], 1, #answer[key], #rows + 1, rows)
    local following = answer.links and answer.links.pages and answer.links.pages.next
    -- Behind a proxy the link names another host: only its path counts.
    local this_path = next_path
    next_path = following and following ~= "" and (following:match("^%a+://[^/]+(/.*)$") or "")
    if next_path == "" or next_path == this_path then
      error_.raise { kind = "unreachable", effect = "none",
        message = ("DigitalOcean answered 200 to GET %s with no address of a next page in "
          .. "links.pages.next"):format(this_path) }
    end
  end
  return rows
end

return api
