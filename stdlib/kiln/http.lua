---HTTP requests that raise, with JSON, forms, streams, redirects and a bounded retry.
---
---A request is repeated only where that cannot do the same thing twice: when nothing of it was
---sent, when it is idempotent (RFC 9110, section 9.2.2), or when the server refused it for its rate
---limit. Everything else is raised with `effect = "maybe"` for the caller to look up.
local crypto = require "rt.crypto"
local json = require "rt.json"
local rt_http = require "rt.http"
local timer = require "rt.timer"
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local form = require "kiln.http.form"
local policy = require "kiln.http.policy"
local secret = require "kiln.secret"
local stream = require "kiln.http.stream"

local http = {}

---@class kiln.http.Options: rt.http.Request
---@field query? table<string, any> added to the URL; a list gives its name several times; secrets
---  may stand in it, as in `json` and `fields` at any depth
---@field json? any sent as the body, as application/json
---@field fields? table<string, any> sent as the body, as application/x-www-form-urlencoded
---@field form? kiln.http.Part[] sent as the body, as multipart/form-data
---@field body? string|userdata|table|fun(): string? a function is called for one piece after the
---  other, nil at the end; it may wait; such a request is never repeated
---@field body_file? string path of a file sent as the body
---@field length? integer bytes that a body's function will give (in chunks, as it is not known)
---@field into? fun(bytes: string, head: rt.http.Head) called with each piece of a 2xx answer's body
---  instead of keeping it; the next one is not read before it returns
---@field check? boolean raise for a status of 400 and above (true)
---@field attempts? integer at most (3)
---@field within? number seconds for all attempts together (no limit)
---@field backoff? number seconds before the second attempt; doubled for each one after it (0.5)
---@field retry_after_max? number seconds of the server's Retry-After that are waited for (60)
---@field redirects? integer how many are followed (0)
---@field sign? fun(request: rt.http.Request): table<string, string|userdata> gives headers for an
---  attempt, from all that is sent: `kiln.sigv4`

---@class kiln.http.Request: kiln.http.Options
---@field url string|userdata

---@class kiln.http.Response
---@field status integer
---@field headers table<string, string> lower-case names
---@field body string empty where `into` took it
---@field seconds number of the last attempt
---@field attempts integer
---@field url string|userdata where it came from, after redirects; a secret if the request's was
local Response = {}
Response.__index = Response

local own_options = {
  query = true, json = true, fields = true, form = true, body_file = true, length = true,
  into = true, check = true, attempts = true, within = true, backoff = true,
  retry_after_max = true, redirects = true, sign = true,
}

http.escape = form.escape

local function rt_request(opts)
  local request = {}
  for name, value in pairs(opts) do
    if not own_options[name] then request[name] = value end
  end
  if type(opts.body) == "function" then request.body = nil end
  request.url = secret.text(request.url)
  if opts.query then request.url = form.with_query(request.url, (secret.fields(opts.query))) end
  form.set_body(request, opts)
  if request.compressed == nil then request.compressed = not opts.into end
  return request
end

---Adds what the signer gives, without touching the caller's table.
local function signed(request, opts)
  if not opts.sign then return request end
  local headers = {}
  for name, value in pairs(request.headers or {}) do headers[name] = value end
  for name, value in pairs(opts.sign(request)) do headers[name] = value end
  local copy = {}
  for name, value in pairs(request) do copy[name] = value end
  copy.headers = headers
  return copy
end

local function send(request, opts)
  if type(opts.body) == "function" or opts.into then return stream.send(request, opts) end
  return rt_http.request(request)
end

---One attempt: the request and the redirects after it.
local function follow(request, opts)
  local most, foreign = opts.redirects or 0, false
  for count = 0, most do
    local one = not foreign and signed(request, opts) or request
    local response, err = send(one, opts)
    if not response then return nil, err end
    response.url = request.url
    local following, leaves
    if most > 0 then following, leaves = policy.redirect(request, response) end
    if not following then return response end
    if type(opts.body) == "function" and following.method == (request.method or "GET") then
      return response -- its body is gone
    end
    if count == most then
      error_.raise { kind = "limit", effect = "maybe", status = response.status,
        message = ("%s: more than %d redirects"):format(policy.describe(request), most) }
    end
    request, foreign = following, foreign or leaves
  end
end

---A pause that is not the same for all who were refused together.
local function spread(pause)
  return pause * (0.75 + (crypto.random(1):byte() / 255) / 2)
end

---Whether an attempt's end asks for another one, and after how many seconds at least.
local function again_after(request, opts, response, err)
  if not response then return policy.may_repeat(request, opts, err), 0 end
  local again, wait = policy.asks_again(request, opts, response)
  return again and wait <= (opts.retry_after_max or 60), wait
end

local function attempt(request, opts)
  local pause, most = opts.backoff or 0.5, opts.attempts or 3
  local deadline = opts.within and timer.now() + opts.within
  for count = 1, most do
    if deadline then
      local left = math.max(deadline - timer.now(), 0.001)
      request.timeout = math.min(opts.timeout or 60, left)
      request.connect_timeout = math.min(opts.connect_timeout or 10, left)
    end
    local response, err = follow(request, opts)
    local again, wait = again_after(request, opts, response, err)
    local ended = response or err
    ended.attempts = count
    wait = math.max(spread(pause), wait)
    if count == most or not again or deadline and timer.now() + wait >= deadline then
      return response, err
    end
    timer.sleep(wait)
    pause = math.min(pause * 2, 30)
  end
end

local kinds = { [401] = "auth", [403] = "denied", [404] = "not_found", [410] = "not_found",
  [429] = "limit" }

---Makes the start of an answer fit for one line and for a journal. Secrets are redacted first: half
---of one would not be found.
---@param body string
---@param bytes? integer (200)
---@return string
function http.excerpt(body, bytes)
  bytes = bytes or 200
  body = secret.redact(body:sub(1, bytes + 64 * 1024))
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
    retry_after = policy.retry_after(response.headers), attempts = response.attempts,
    message = ("%s: answered %d%s"):format(policy.describe(request), response.status,
      body ~= "" and ": " .. body or ""),
  }
end

---Sends a request, again if that is safe, and gives the answer.
---Raises `unreachable`, `timeout`, `tls`, `protocol`, `limit`, `invalid`, `unsupported` with
---`effect` and `attempts`; for a status of 400 and above `auth` (401), `denied` (403), `not_found`
---(404, 410), `limit` (429) or `status`, with `status`, the start of the `body`, and `retry_after`
---where the server said so; `denied` for a redirect that must not be followed.
---@async
---@param opts kiln.http.Request
---@return kiln.http.Response
function http.request(opts)
  local hidden = secret.is(opts.url) or secret.within(opts.query)
  if secret.is(opts.url) then secret.know(opts.url) end
  local request = rt_request(opts)
  local response, err = attempt(request, opts)
  if err then err.message = secret.redact(err.message) end
  error_.check(response, err)
  if hidden then response.url = crypto.secret(response.url) end
  if opts.check ~= false then check_status(request, response) end
  return setmetatable(response, Response)
end

---Makes an answer's plain fields an answer again.
---@param row table
---@return kiln.http.Response
function http.response(row)
  return setmetatable(row, Response)
end

local function shorthand(method, url, opts)
  local request = { method = method, url = url }
  for name, value in pairs(opts or {}) do request[name] = value end
  return http.request(request)
end

---Sends a GET; as `http.request`.
---@async
---@param url string|userdata
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.get(url, opts)
  return shorthand("GET", url, opts)
end

---Sends a POST; as `http.request`.
---@async
---@param url string|userdata
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.post(url, opts)
  return shorthand("POST", url, opts)
end

---Sends a PUT; as `http.request`.
---@async
---@param url string|userdata
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.put(url, opts)
  return shorthand("PUT", url, opts)
end

---Sends a DELETE; as `http.request`.
---@async
---@param url string|userdata
---@param opts? kiln.http.Options
---@return kiln.http.Response
function http.delete(url, opts)
  return shorthand("DELETE", url, opts)
end

---Gets a file: into a new one beside it, synced, its digest checked, renamed into place; so `path`
---is the old file or the whole new one. An attempt that broke off goes on where it stopped, where
---the server names the file's version and gives parts of it.
---Raises as `http.request`; `invalid` for another digest; `io` and the like for the file.
---@async
---@param url string|userdata
---@param path string
---@param opts? kiln.http.DownloadOptions
---@return { bytes: integer, sha256: string?, attempts: integer }
function http.download(url, path, opts)
  return stream.download(http.request, url, path, opts or {})
end

---Finds the version that an answer names: `version` of its JSON object, or the header X-Version or
---X-App-Version.
---@param response { body: string, headers: table<string, string>, [string]: any } an answer
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

signature.class("response", Response)

return http
