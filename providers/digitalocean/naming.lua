---How kiln's names, tags and tokens stand in DigitalOcean's tags and names.
---
---A tag is letters, digits, `_`, `-` and `:`, at most 255 of them, and keeps the case that it was
---first written in (https://docs.digitalocean.com/reference/api/, tags). So what kiln writes is in
---lower case, and every other byte of a value is `_` and its two hexadecimal digits.
local crypto = require "kiln.crypto"
local error_ = require "kiln.error"
local json = require "kiln.json"

local naming = {}

---What every droplet of kiln's carries.
naming.ours = "kiln"

local longest = 255

---Writes text so that it can stand in a tag.
---@param text string
---@return string
function naming.escape(text)
  return (text:gsub("[^%l%d%-]", function(c) return ("_%02x"):format(c:byte()) end))
end

---Reads what `escape` wrote.
---@param text string
---@return string
function naming.unescape(text)
  return (text:gsub("_(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function tag(...)
  local name = table.concat({ ... }, ":")
  if #name > longest then
    error_.raise { kind = "invalid",
      message = ("a tag has at most %d characters, this one %d: %s"):format(longest, #name, name) }
  end
  return name
end

---Gives the tag that tells a machine's token. Machines made by one request carry each other's too,
---so it names the machine.
---@param token string
---@param name string
---@return string
function naming.token_tag(token, name)
  return tag("kiln-token", naming.escape(token), naming.escape(name))
end

---Gives the tags of a recipe's table, sorted.
---@param tags table<string, any>
---@return string[]
function naming.tags_of(tags)
  local list = {}
  for key, value in pairs(tags) do
    list[#list + 1] = tag("kiln-tag", naming.escape(tostring(key)), naming.escape(tostring(value)))
  end
  table.sort(list)
  return list
end

---Reads a droplet's or an image's tags: the recipe's table, and the token that belongs to `name`.
---@param list? string[]
---@param name string
---@return table<string, string> tags
---@return string? token
function naming.read(list, name)
  local tags, token = {}, nil
  local mine = naming.escape(name)
  for _, one in ipairs(type(list) == "table" and list or {}) do
    local kind, key, value = one:match("^kiln%-(%l+):([^:]*):([^:]*)$")
    if kind == "tag" then tags[naming.unescape(key)] = naming.unescape(value) end
    if kind == "token" and value == mine then token = naming.unescape(key) end
  end
  return tags, token
end

local labels = { "kiln_project", "kiln_env", "kiln_service", "token" } -- of an address, in order

---Gives the tag that remembers which name a reserved IP has, and whose it is: those have neither
---names nor tags of their own.
---@param name string
---@param ip string
---@param tags? table<string, string> whose it is
---@param token string of its creation
---@return string
function naming.address_tag(name, ip, tags, token)
  local parts = { naming.escape(name), (ip:gsub("%.", "-")) }
  for _, label in ipairs(labels) do
    local value = label == "token" and token or tags and tags[label]
    parts[#parts + 1] = naming.escape(value or "")
  end
  return tag("kiln-address", table.unpack(parts))
end

---Reads such a tag.
---@param text string
---@return { name: string, ip: string, tags: table<string, string>, token: string?, tag: string }?
function naming.read_address(text)
  local name, ip, rest = text:match("^kiln%-address:([^:]*):([%d%-]+)(.*)$")
  if not name or rest ~= "" and rest:sub(1, 1) ~= ":" then return nil end
  local tags, at = {}, 0
  for value in rest:gmatch(":([^:]*)") do
    at = at + 1
    if labels[at] and value ~= "" then tags[labels[at]] = naming.unescape(value) end
  end
  local token = tags.token -- an older kiln wrote none
  tags.token = nil
  return {
    name = naming.unescape(name), ip = (ip:gsub("%-", ".")), tags = tags, token = token, tag = text,
  }
end

local piece = 110 -- bytes of data in a tag; two characters each

---Writes an image's data as tags. Hexadecimal, because a tag's case may not be kept.
---@param data table
---@param token string makes them this image's own
---@return string[]
function naming.data_tags(data, token)
  local text, list = json.encode(data), {}
  local hex = text:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  local short = crypto.sha256(token):sub(1, 8) -- of the whole: its end is many images'
  for at = 1, #hex, 2 * piece do
    list[#list + 1] = tag("kiln-data", naming.escape(short), tostring(#list + 1),
      hex:sub(at, at + 2 * piece - 1))
  end
  list[#list + 1] = tag("kiln-whole", naming.escape(short), tostring(#list))
  return list
end

---Reads an image's data; nil while not all of it is there.
---@param list? string[]
---@return table? data
function naming.read_data(list)
  local pieces, count = {}, nil
  for _, one in ipairs(type(list) == "table" and list or {}) do
    local number, hex = one:match("^kiln%-data:[^:]*:(%d+):(%x*)$")
    if number then pieces[tonumber(number)] = hex end
    count = tonumber(one:match("^kiln%-whole:[^:]*:(%d+)$")) or count
  end
  if not count or #pieces < count then return nil end
  local text = table.concat(pieces):gsub("%x%x", function(hex)
    return string.char(tonumber(hex, 16))
  end)
  return json.decode(text)
end

---Seconds since 1970 of "2026-11-23T19:05:41Z" (RFC 3339).
---@param text string
---@return integer?
function naming.epoch(text)
  local year, month, day, hour, minute, second =
    tostring(text):match("^(%d+)%-(%d+)%-(%d+)T(%d+):(%d+):(%d+)")
  if not year then return nil end
  local y = math.tointeger(year) - (tonumber(month) <= 2 and 1 or 0)
  local m = (math.tointeger(month) + 9) % 12
  local days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5
    + math.tointeger(day) - 1 - 719468
  return days * 86400 + math.tointeger(hour) * 3600 + math.tointeger(minute) * 60
    + math.tointeger(second)
end

return naming
