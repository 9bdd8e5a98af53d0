---What may be sent again, after which pause, and where a redirect may lead.
local crypto = require "rt.crypto"
local rt_http = require "rt.http"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local secret = require "kiln.secret"

local policy = {}

-- RFC 9110, section 9.2.2.
local idempotent = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true }

---Tells whether doing a request twice is like doing it once: by its method, unless the caller knows
---better. A body that comes from a function is there once.
---@param request rt.http.Request
---@param opts kiln.http.Options
---@return boolean
function policy.is_idempotent(request, opts)
  if type(opts.body) == "function" then return false end
  if opts.idempotent ~= nil then return opts.idempotent end
  return idempotent[request.method or "GET"] == true
end

local final = { tls = true, invalid = true, unsupported = true, limit = true, io = true,
  not_found = true, denied = true }

---Tells whether a failed attempt may be repeated: never what may have taken effect.
---@param request rt.http.Request
---@param opts kiln.http.Options
---@param err table of `rt.http`
---@return boolean
function policy.may_repeat(request, opts, err)
  if final[err.kind] or type(opts.body) == "function" then return false end
  return err.effect == "none" or policy.is_idempotent(request, opts)
end

---Gives the seconds that an answer asks to wait for: a number, or a date (RFC 9110, 10.2.3).
---@param headers table<string, string>
---@param now? integer seconds since 1970 (the clock's)
---@return number? seconds never negative; nil: it does not ask
function policy.retry_after(headers, now)
  local text = headers["retry-after"]
  if not text then return nil end
  if text:find("^%s*%d+%s*$") then return tonumber(text) end
  local at = rt_http.date(text)
  return at and math.max(at - (now or timer.time()), 0)
end

---Tells whether an answer asks for another attempt, and after how many seconds at least. A 429 was
---not acted upon (RFC 6585, section 4); after a 502, 503 or 504 something may have happened.
---@param request rt.http.Request
---@param opts kiln.http.Options
---@param response rt.http.Head
---@return boolean again
---@return number seconds
function policy.asks_again(request, opts, response)
  local status = response.status
  local failed = status == 502 or status == 503 or status == 504
  local again = status == 429 and type(opts.body) ~= "function"
    or failed and policy.is_idempotent(request, opts)
  return again, policy.retry_after(response.headers) or 0
end

-- What describes the wished answer and nobody's rights; all else stays with the first host.
local harmless = {
  accept = true, ["accept-encoding"] = true, ["accept-language"] = true, ["user-agent"] = true,
  range = true, ["if-range"] = true, ["if-match"] = true, ["if-none-match"] = true,
  ["if-modified-since"] = true, ["if-unmodified-since"] = true, ["cache-control"] = true,
}

local function harmless_headers(headers)
  local kept = {}
  for name, value in pairs(headers or {}) do
    if harmless[name:lower()] and not crypto.is_secret(value) then kept[name] = value end
  end
  return kept
end

local function origin(parts)
  return ("%s://%s:%s"):format(parts.scheme, parts.host:lower(), parts.port)
end

local function refuse(request, response, why)
  error_.raise {
    kind = "denied", status = response.status, effect = "maybe",
    message = ("%s: the redirect to %s is not followed: %s"):format(policy.describe(request),
      policy.place(tostring(response.headers.location)), why),
  }
end

---Names an address in messages: no query, no user, no secret.
---@param url string|userdata
---@return string
function policy.place(url)
  local text = secret.text(secret.is(url) and secret.know(url) or url)
  return (secret.redact(text):gsub("[?#].*$", ""):gsub("^(%a+://)[^/]*@", "%1"))
end

---Names a request in messages.
---@param request rt.http.Request
---@return string
function policy.describe(request)
  return (request.method or "GET") .. " " .. policy.place(request.url)
end

---The method that a redirect is followed with (RFC 9110, section 15.4), or nil: it is none, or one
---that a client must not follow by itself.
local function redirect_method(request, response)
  local method, status = request.method or "GET", response.status
  if not response.headers.location then return nil end
  if status == 307 or status == 308 then return method end
  if status == 303 then return method == "HEAD" and "HEAD" or "GET" end
  local reads = method == "GET" or method == "HEAD"
  return reads and (status == 301 or status == 302) and method or nil
end

---Makes the request that a redirect asks for. To another origin (scheme, host, port) go no
---credentials, no client certificate, no header but what describes the wished answer, and no body.
---Raises `denied` for a redirect from https to http, or one that would have to take a body or leave
---a unix socket, and `protocol` for one that cannot be read.
---@param request rt.http.Request
---@param response rt.http.Head
---@return rt.http.Request? next nil: the answer is no redirect to follow
---@return boolean? foreign it goes to another origin
function policy.redirect(request, response)
  local method = redirect_method(request, response)
  if not method then return nil end
  local from = error_.check(rt_http.url(request.url))
  local to = rt_http.url(request.url, response.headers.location)
  if not to then
    error_.raise { kind = "protocol", effect = "maybe",
      message = policy.describe(request) .. ": the redirect's address cannot be read" }
  end
  if to.scheme ~= "http" and to.scheme ~= "https" then
    refuse(request, response, "neither http nor https")
  end
  if from.scheme == "https" and to.scheme == "http" then
    refuse(request, response, "it leaves https")
  end
  local following = {}
  for name, value in pairs(request) do following[name] = value end
  following.method = method
  following.url = to.url
  if method ~= (request.method or "GET") then following.body = nil end
  local foreign = origin(from) ~= origin(to)
  if foreign then
    if request.unix_socket then refuse(request, response, "it leaves the unix socket") end
    if following.body then refuse(request, response, "it would take the body to another host") end
    following.headers = harmless_headers(request.headers)
    following.cert, following.cert_file, following.key, following.key_file = nil, nil, nil, nil
    following.key_password = nil
  end
  return following, foreign
end

return policy
