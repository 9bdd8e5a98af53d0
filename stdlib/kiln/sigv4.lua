---Signs requests the way AWS and the stores that speak S3 expect it: Signature Version 4
---(AWS General Reference, "Signature Version 4 signing process"; Amazon S3 API Reference,
---"Authenticating Requests").
local crypto = require "rt.crypto"
local rt_http = require "rt.http"
local error_ = require "kiln.error"
local form = require "kiln.http.form"

local sigv4 = {}

local ALGORITHM = "AWS4-HMAC-SHA256"
local UNSIGNED = "UNSIGNED-PAYLOAD"

---@class kiln.sigv4.Options
---@field region string "us-east-1"
---@field service string "s3", "ec2"
---@field access_key string
---@field secret_key string|userdata
---@field session_token? string|userdata of temporary credentials
---@field now? integer seconds since 1970 (the clock's)

local function reveal(value)
  return crypto.is_secret(value) and crypto.reveal(value) or value
end

local function check_options(opts)
  for _, name in ipairs { "region", "service", "access_key", "secret_key" } do
    if opts[name] == nil then
      error_.raise { kind = "usage", message = ("sigv4: option '%s' is missing"):format(name) }
    end
  end
end

---Undoes percent-encoding, so that what is encoded already is not encoded again.
local function decode(text)
  return (text:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

---The path as it is signed. S3 takes it as it is; elsewhere "." and ".." are resolved, slashes
---are joined, and what is encoded is encoded once more.
local function canonical_path(path, service)
  local function encode(text)
    return (text:gsub("[^/]+", function(part) return form.escape(decode(part)) end))
  end
  if service == "s3" then return encode(path) end
  local parts = {}
  for part in path:gmatch("[^/]+") do
    if part == ".." then
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = form.escape(form.escape(decode(part)))
    end
  end
  local ends = path:find("/%.*$") and #parts > 0 and "/" or ""
  return "/" .. table.concat(parts, "/") .. ends
end

local function canonical_query(query)
  local pairs_ = {}
  for item in (query or ""):gmatch("[^&]+") do
    local name, value = item:match("^([^=]*)=?(.*)$")
    pairs_[#pairs_ + 1] = { form.escape(decode(name)), form.escape(decode(value)) }
  end
  table.sort(pairs_, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  for index, pair in ipairs(pairs_) do pairs_[index] = pair[1] .. "=" .. pair[2] end
  return table.concat(pairs_, "&")
end

---Lower-case names in order, values without spare blanks.
local function canonical_headers(headers)
  local names, values = {}, {}
  for name, value in pairs(headers) do
    local key = name:lower()
    names[#names + 1] = key
    values[key] = reveal(value):gsub("^%s+", ""):gsub("%s+$", ""):gsub(" +", " ")
  end
  table.sort(names)
  local lines = {}
  for _, name in ipairs(names) do lines[#lines + 1] = name .. ":" .. values[name] .. "\n" end
  return table.concat(lines), table.concat(names, ";")
end

local function host_of(parts)
  local usual = { http = "80", https = "443" }
  return parts.port == usual[parts.scheme] and parts.host or parts.host .. ":" .. parts.port
end

local function hmac(key, text)
  return crypto.hmac_sha256(key, text, { raw = true })
end

---The last step: the scope's key, the hash of the canonical request, the signature.
local function signature(opts, stamp, canonical)
  local day = stamp:sub(1, 8)
  local scope = ("%s/%s/%s/aws4_request"):format(day, opts.region, opts.service)
  local text = ("%s\n%s\n%s\n%s"):format(ALGORITHM, stamp, scope, crypto.sha256(canonical))
  local key = hmac("AWS4" .. reveal(opts.secret_key), day)
  for _, part in ipairs { opts.region, opts.service, "aws4_request" } do key = hmac(key, part) end
  return crypto.hmac_sha256(key, text), scope
end

local function payload_hash(body)
  if body == nil then return crypto.sha256("") end
  if type(body) == "string" or crypto.is_secret(body) then return crypto.sha256(body) end
  if #body == 1 and type(body[1]) == "table" then
    return error_.check(crypto.sha256_file(body[1].file))
  end
  return UNSIGNED -- a form: only S3 takes it, and over TLS
end

---Signs a request: gives the headers to add to it.
---@async
---@param request { method: string?, url: string, headers: table?, body: any }
---@param opts kiln.sigv4.Options
---@return table<string, string|userdata> headers
function sigv4.sign(request, opts)
  check_options(opts)
  local parts = error_.check(rt_http.url(request.url))
  local stamp = os.date("!%Y%m%dT%H%M%SZ", opts.now or os.time())
  local hash = payload_hash(request.body)
  local added = { ["X-Amz-Date"] = stamp, ["X-Amz-Security-Token"] = opts.session_token }
  if opts.service == "s3" then added["X-Amz-Content-Sha256"] = hash end
  local signed = { Host = host_of(parts) }
  for name, value in pairs(request.headers or {}) do
    if name:lower() ~= "authorization" then signed[name] = value end
  end
  for name, value in pairs(added) do signed[name] = value end
  local headers, names = canonical_headers(signed)
  local canonical = table.concat({ request.method or "GET",
    canonical_path(parts.path, opts.service), canonical_query(parts.query), headers, names,
    hash }, "\n")
  local sum, scope = signature(opts, stamp, canonical)
  added.Authorization = ("%s Credential=%s/%s, SignedHeaders=%s, Signature=%s"):format(ALGORITHM,
    opts.access_key, scope, names, sum)
  return added
end

---Makes what `kiln.http` takes as `sign`: every attempt is signed anew, since a signature gets old.
---@param opts kiln.sigv4.Options
---@return fun(request: rt.http.Request): table<string, string|userdata>
function sigv4.signer(opts)
  check_options(opts)
  return function(request) return sigv4.sign(request, opts) end
end

---Makes a URL that whoever has it may use for so long, without the key: for a machine that fetches
---its release itself.
---@param url string
---@param opts kiln.sigv4.Options|{ method: string?, expires: integer? } GET; seconds (3600, at most
---  seven days)
---@return string url
function sigv4.presign(url, opts)
  check_options(opts)
  local expires = opts.expires or 3600
  if math.type(expires) ~= "integer" or expires < 1 or expires > 604800 then
    error_.raise { kind = "usage",
      message = "sigv4: option 'expires' must be seconds from 1 to 604800" }
  end
  local parts = error_.check(rt_http.url(url))
  local stamp = os.date("!%Y%m%dT%H%M%SZ", opts.now or os.time())
  local scope = ("%s/%s/%s/aws4_request"):format(stamp:sub(1, 8), opts.region, opts.service)
  local query = form.encode {
    ["X-Amz-Algorithm"] = ALGORITHM, ["X-Amz-Credential"] = opts.access_key .. "/" .. scope,
    ["X-Amz-Date"] = stamp, ["X-Amz-Expires"] = expires, ["X-Amz-SignedHeaders"] = "host",
    ["X-Amz-Security-Token"] = opts.session_token and reveal(opts.session_token),
  }
  if parts.query then query = parts.query .. "&" .. query end
  local path = canonical_path(parts.path, opts.service)
  query = canonical_query(query)
  local canonical = table.concat({ opts.method or "GET", path, query,
    "host:" .. host_of(parts) .. "\n", "host", UNSIGNED }, "\n")
  local sum = signature(opts, stamp, canonical)
  return ("%s://%s%s?%s&X-Amz-Signature=%s"):format(parts.scheme, host_of(parts), parts.path, query,
    sum)
end

return sigv4
