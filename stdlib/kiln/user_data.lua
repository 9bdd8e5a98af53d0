---User-data as cloud-init reads it: which kind a text is, and how several become one document.
---https://docs.cloud-init.io/en/latest/explanation/format.html
local crypto = require "rt.crypto"
local gzip = require "rt.gzip"
local json = require "rt.json"
local yaml = require "rt.yaml"
local error_ = require "kiln.error"

local user_data = {}

---What user-data begins with, in any case, and the type that it has then, the longest first:
---INCLUSION_TYPES_MAP in cloud-init's cloudinit/handlers/__init__.py.
local beginnings = {
  { "#cloud-config-archive", "cloud-config-archive" },
  { "#cloud-config-jsonp", "cloud-config-jsonp" },
  { "## template: jinja", "jinja2" },
  { "#cloud-boothook", "cloud-boothook" },
  { "#include-once", "x-include-once-url" },
  { "#cloud-config", "cloud-config" },
  { "#part-handler", "part-handler" },
  { "#include", "x-include-url" },
  { "#!", "x-shellscript" },
}

---Every type that a part of a MIME document can have, as `cloud-init devel make-mime --list-types`
---names them.
user_data.types = {
  "x-shellscript-per-boot", "x-shellscript-per-instance", "x-shellscript-per-once",
}
for _, one in ipairs(beginnings) do table.insert(user_data.types, one[2]) end
table.sort(user_data.types)
local known_types = {}
for _, name in ipairs(user_data.types) do known_types[name] = true end

---How cloud-init merges kiln's part into the configuration before it: lists get kiln's items at
---their end, and what is there already stays.
---https://docs.cloud-init.io/en/latest/reference/merging.html
local MERGE = "list(append)+dict(no_replace,recurse_list)+str()"

local UNPACKED_MOST = 16 * 1024 * 1024

local function invalid(format, ...)
  error_.raise { kind = "invalid", message = format:format(...) }
end

local function type_of(text)
  local start = text:sub(1, 40):lower()
  for _, one in ipairs(beginnings) do
    if start:sub(1, #one[1]) == one[1] then return one[2] end
  end
end

---Whether a text is a MIME document: header lines, of which one says so.
local function is_mime(text)
  local head = text:sub(1, 4096):gsub("\r", ""):match("^(.-)\n\n") or ""
  head = head:lower()
  return head:find("^[%w%-]+:") ~= nil
    and (head:find("mime-version:", 1, true) or head:find("content-type:%s*multipart/")) ~= nil
end

---Removes what an editor or a Lua text puts before the first line; cloud-init would not know the
---kind of the text, or the kernel not the script's interpreter.
local function trimmed(text)
  return (text:gsub("^\xEF\xBB\xBF", ""):gsub("^%s+", ""))
end

---Reads a cloud-config; refuses one that is no map. What cloud-init's YAML reader takes and kiln's
---does not (tags, merge keys) is left to cloud-init.
---@return table? config nil: kiln cannot read it
---@return boolean empty
local function read_config(text)
  local config, err = yaml.decode(text)
  if err and not error_.is(err, "unsupported") then
    invalid("the user-data's cloud-config cannot be read: %s", err.message)
  end
  if err then return nil, false end
  if config == json.null then return nil, true end
  if type(config) ~= "table" or json.is_array(config) then
    invalid("the user-data's cloud-config must be a map, as in 'runcmd: […]'")
  end
  return config, false
end

---@class kiln.UserData
---@field type string? one of `user_data.types`; nil: a MIME document
---@field content string as cloud-init is to get it; gzip'd where `packed`
---@field packed boolean?
---@field config table? a cloud-config, as far as kiln can read it

---Finds out what a recipe's user-data is, by the rules of cloud-init.
---Raises `invalid` for what cloud-init would not run.
---@param text any
---@return kiln.UserData? read nil: there is none
function user_data.read(text)
  if text == nil then return nil end
  if type(text) ~= "string" then
    invalid("user_data must be text, not a %s: cloudinit.config { … } makes it of fragments",
      crypto.is_secret(text) and "secret" or type(text))
  end
  if text:sub(1, 2) == "\x1F\x8B" then
    local plain, err = gzip.unpack(text, UNPACKED_MOST)
    if err then invalid("the user-data begins as gzip and cannot be unpacked: %s", err.message) end
    local read = user_data.read(plain)
    -- cloud-init unpacks parts, but takes no MIME out of one, and loses text that is not ASCII.
    local stays = read and read.type and not read.content:find("[\128-\255]")
    if not stays then return read end
    return { type = read.type, content = text, packed = true, config = read.config }
  end
  text = trimmed(text)
  if text == "" then return nil end
  if not utf8.len(text) then invalid("the user-data is neither UTF-8 text nor gzip") end
  local kind = type_of(text)
  if not kind and not is_mime(text) then
    invalid("the user-data would not run: cloud-init knows what it is by its first line, which is "
      .. "none of #!/bin/sh (a script), #cloud-config, #cloud-boothook, #include, "
      .. "#cloud-config-archive, #part-handler, ## template: jinja")
  end
  local config, empty
  if kind == "cloud-config" then config, empty = read_config(text) end
  if empty then return nil end
  return { type = kind, content = text, config = config }
end

---Renders a part. cloud-init decodes text of parts by ASCII, so whatever else is in it travels as
---base64.
local function part_text(part)
  if part.mime then return part.content end
  local plain = not part.content:find("[^\t\n\32-\126]")
  local lines = {
    "Content-Type: " .. (part.packed and "application/gzip"
      or ('text/%s; charset="utf-8"'):format(part.type)),
    "MIME-Version: 1.0",
    "Content-Transfer-Encoding: " .. (plain and "7bit" or "base64"),
  }
  if part.filename then
    lines[#lines + 1] = ('Content-Disposition: attachment; filename="%s"'):format(part.filename)
  end
  if part.merge then lines[#lines + 1] = "Merge-Type: " .. part.merge end
  local body = part.content
  if not plain then body = crypto.base64(body):gsub(("."):rep(76), "%0\n") end
  return table.concat(lines, "\n") .. "\n\n" .. body
end

local function document(parts)
  local texts = {}
  for index, part in ipairs(parts) do texts[index] = part_text(part) end
  local body = table.concat(texts)
  local boundary = "kiln-" .. crypto.sha256(body):sub(1, 24) -- no part can contain it
  local out = {
    ('Content-Type: multipart/mixed; boundary="%s"\nMIME-Version: 1.0\n'):format(boundary),
  }
  for _, text in ipairs(texts) do out[#out + 1] = ("--%s\n%s"):format(boundary, text) end
  out[#out + 1] = "--" .. boundary .. "--\n"
  return table.concat(out, "\n")
end

local part_keys = { type = true, content = true, filename = true }

local function check_part(index, part, names)
  if type(part) ~= "table" then invalid("part %d must be a table with type and content", index) end
  for key in pairs(part) do
    if not part_keys[key] then
      invalid("part %d has an unknown field '%s'; it has type, content and filename", index,
        tostring(key))
    end
  end
  if not known_types[part.type] then
    invalid("part %d has the type '%s'; cloud-init's types are %s", index, tostring(part.type),
      table.concat(user_data.types, ", "))
  end
  local content, name = part.content, part.filename
  if type(content) ~= "string" or not utf8.len(content) then
    invalid("part %d (%s) needs its content, UTF-8 text", index, part.type)
  end
  if part.type:find("^x%-shellscript") and content:sub(1, 2) ~= "#!" then
    invalid("part %d is a script and must begin with its interpreter, as in #!/bin/sh", index)
  end
  if name == nil then return end
  if type(name) ~= "string" or not name:find("^[%w._%-]+$") then
    invalid("part %d: a filename has letters, digits, dots, hyphens and underscores", index)
  end
  if names[name] then
    invalid("parts %d and %d have the same filename '%s': cloud-init would keep one of them",
      names[name], index, name)
  end
  names[name] = index
end

---Renders several parts as one MIME document; the same parts give the same text.
---Raises `invalid`.
---@param parts { type: string, content: string, filename: string? }[] types as `user_data.types`
---@return string text
function user_data.multipart(parts)
  if type(parts) ~= "table" or #parts == 0 then
    invalid("cloudinit.multipart takes a list of parts: { { type = …, content = … } }")
  end
  local names = {}
  for index, part in ipairs(parts) do check_part(index, part, names) end
  return document(parts)
end

---Raises where two configurations set the same thing differently; names it, never its value.
local function check_conflicts(ours, theirs, path)
  local keys = {}
  for key in pairs(ours) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value, other = ours[key], theirs[key]
    local at = path == "" and key or path .. "." .. key
    if type(value) ~= "table" and other ~= nil and other ~= value then
      invalid("the user-data sets %s, which kiln sets itself: leave it out", at)
    elseif type(value) == "table" and other ~= nil then
      if type(other) ~= "table" or json.is_array(other) ~= json.is_array(value) and next(other) then
        invalid("the user-data's %s must be a %s", at, json.is_array(value) and "list" or "map")
      end
      if not json.is_array(value) then check_conflicts(value, other, at) end
    end
  end
end

---Joins a configuration of kiln's own with user-data of any kind: both take effect, and kiln's is
---added to the end of lists. Raises `invalid`.
---@param config table
---@param text? string
---@return string
function user_data.join(config, text)
  local ours = "#cloud-config\n" .. yaml.encode(config)
  local read = user_data.read(text)
  if not read then return ours end
  if read.config then check_conflicts(config, read.config, "") end
  return document {
    { type = read.type, content = read.content, packed = read.packed, mime = not read.type,
      filename = "user-data" },
    { type = "cloud-config", content = ours, filename = "kiln.yaml", merge = MERGE },
  }
end

return user_data
