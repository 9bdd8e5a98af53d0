---How values are written into URLs and bodies: queries, forms, JSON.
local crypto = require "rt.crypto"
local json = require "kiln.json"
local secret = require "kiln.secret"

local form = {}

---Writes text so that it can stand in a URL (RFC 3986, section 2.3).
---@param text string|number|boolean|userdata
---@return string|userdata escaped a secret for a secret
function form.escape(text)
  if secret.is(text) then return secret.encode(text, form.escape) end
  return (tostring(text):gsub("[^%w%-%._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

---Writes a map as `a=1&b=2`, in the order of the names. A list gives its name several times.
---@param map table<string, any> texts, numbers, booleans and secrets, or lists of them
---@return string|userdata text a secret when one of them is
function form.encode(map)
  if secret.within(map) then return secret.encode(map, form.encode) end
  local names, parts = {}, {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local values = type(map[name]) == "table" and map[name] or { map[name] }
    for _, value in ipairs(values) do
      parts[#parts + 1] = form.escape(name) .. "=" .. form.escape(value)
    end
  end
  return table.concat(parts, "&")
end

---Adds a query to a URL, before its fragment.
---@param url string
---@param query table<string, any> as `form.encode` takes it, without secrets
---@return string
function form.with_query(url, query)
  local text = form.encode(query)
  if text == "" then return url end
  local front, fragment = url:match("^([^#]*)(.*)$")
  return front .. (front:find("?", 1, true) and "&" or "?") .. text .. fragment
end

---A name as it may stand between quotes in a part's header (RFC 7578, section 2; the escapes are
---those of the HTML standard, "multipart/form-data encoding algorithm").
local function quoted(name)
  local escaped = name:gsub('["\r\n]', { ['"'] = "%22", ["\r"] = "%0D", ["\n"] = "%0A" })
  return '"' .. escaped .. '"'
end

local known = { name = true, value = true, file = true, filename = true, type = true }

local function part_head(part)
  for key in pairs(part) do
    if not known[key] then error(("a part of a form has no field '%s'"):format(key), 0) end
  end
  if type(part.name) ~= "string" or (part.value == nil) == (part.file == nil) then
    error("a part of a form has a name, and a value or a file", 0)
  end
  local filename = part.filename or part.file and part.file:match("[^/]*$")
  local kind = part.type or part.file and "application/octet-stream"
  if kind and kind:find("%c") then error("the type of a form's part has a line break", 0) end
  return "Content-Disposition: form-data; name=" .. quoted(part.name)
    .. (filename and "; filename=" .. quoted(filename) or "") .. "\r\n"
    .. (kind and "Content-Type: " .. kind .. "\r\n" or "") .. "\r\n"
end

---@class kiln.http.Part
---@field name string
---@field value? string|number|boolean|userdata this or a file
---@field file? string path
---@field filename? string what the server is told (the last part of the path)
---@field type? string media type (a file's: "application/octet-stream")

---Makes the body of a multipart form (RFC 7578). Files are read while they are sent.
---@param parts kiln.http.Part[]
---@return (string|userdata|{ file: string })[] body for `rt.http`
---@return string content_type
function form.multipart(parts)
  local boundary = "kiln-" .. crypto.hex(crypto.random(16)) -- 128 bits: in no part's bytes
  local body = {}
  for _, part in ipairs(parts) do
    body[#body + 1] = "--" .. boundary .. "\r\n" .. part_head(part)
    local value = part.value
    if type(value) == "number" or type(value) == "boolean" then value = tostring(value) end
    body[#body + 1] = value or { file = part.file }
    body[#body + 1] = "\r\n"
  end
  body[#body + 1] = "--" .. boundary .. "--\r\n"
  return body, "multipart/form-data; boundary=" .. boundary
end

local function add_headers(request, own)
  local headers = {}
  for name, value in pairs(own) do headers[name] = value end
  for name, value in pairs(request.headers or {}) do
    for known_name in pairs(own) do
      if known_name:lower() == name:lower() then headers[known_name] = nil end
    end
    headers[name] = value
  end
  request.headers = headers
end

---Puts the body that the options describe into the request; at most one of `body`, `body_file`,
---`json`, `fields` and `form`.
---@param request rt.http.Request changed
---@param opts kiln.http.Options
function form.set_body(request, opts)
  local count = 0
  for _, name in ipairs { "body", "body_file", "json", "fields", "form" } do
    if opts[name] ~= nil then count = count + 1 end
  end
  if count > 1 then error("one of the options body, body_file, json, fields, form", 0) end
  if opts.body_file then
    request.body = { { file = opts.body_file } }
  elseif opts.json ~= nil then
    request.body = json.encode(opts.json)
    add_headers(request, { ["Content-Type"] = "application/json", Accept = "application/json" })
  elseif opts.fields then
    request.body = form.encode(opts.fields)
    add_headers(request, { ["Content-Type"] = "application/x-www-form-urlencoded" })
  elseif opts.form then
    local kind
    request.body, kind = form.multipart(opts.form)
    add_headers(request, { ["Content-Type"] = kind })
  end
end

return form
