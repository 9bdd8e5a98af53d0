---Reads what a request carries: a wrong type is refused with 422, as little else as the real API.
local json = require "kiln.json"
local reply = require "providers.digitalocean.sim.reply"

local input = {}

---Takes `null` out: for the API it is the same as a field that is not there.
local function without_null(value)
  if type(value) ~= "table" then return value end
  local array = json.is_array(value) and #value > 0
  local out = array and json.array {} or {}
  for key, item in pairs(value) do
    if item ~= json.null then
      if array then out[#out + 1] = without_null(item) else out[key] = without_null(item) end
    end
  end
  return out
end

---Reads a JSON body; none is an empty object. Refuses what is no JSON object with 400.
---@param text string?
---@return table
function input.body(text)
  if not text or not text:find("%S") then return {} end
  local ok, value = pcall(json.decode, text, { last_wins = true })
  if not ok or type(value) ~= "table" then
    reply.refuse(400, "bad_request", "The request body is not a JSON object: "
      .. (ok and "it is something else" or value.message))
  end
  return without_null(value)
end

local function unescape(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

---Reads a query, given as text or as a table.
---@param query string|table|nil
---@return table<string, string>
function input.query(query)
  if type(query) == "table" then return query end
  local out = {}
  for pair in (query or ""):gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = unescape(name)
    if out[name] == nil then out[name] = unescape(value) end
  end
  return out
end

local function wrong(name, wanted)
  reply.unprocessable("%s is invalid: it must be %s", name, wanted)
end

---Gives a text field.
---@param body table
---@param name string
---@param required? boolean (false)
---@return string?
function input.text(body, name, required)
  local value = body[name]
  if value == nil and not required then return nil end
  if type(value) ~= "string" or (required and value == "") then wrong(name, "text") end
  return value
end

---Gives a whole number; text made of digits will do, as it does for the real API.
---@param body table
---@param name string
---@param required? boolean (false)
---@return integer?
function input.integer(body, name, required)
  local value = body[name]
  if value == nil and not required then return nil end
  local number = (type(value) == "number" or type(value) == "string")
    and math.tointeger(tonumber(value))
  if not number then wrong(name, "a whole number") end
  return number
end

---Gives a list; nil and `null` are empty.
---@param body table
---@param name string
---@return any[]
function input.list(body, name)
  local value = body[name]
  if value == nil then return json.array {} end
  if type(value) ~= "table" or (next(value) ~= nil and not json.is_array(value)) then
    wrong(name, "a list")
  end
  return json.array(table.move(value, 1, #value, 1, {}))
end

---Gives a list of texts; numbers become text.
---@param body table
---@param name string
---@return string[]
function input.texts(body, name)
  local list = input.list(body, name)
  for index, item in ipairs(list) do
    if type(item) ~= "string" and math.type(item) ~= "integer" then
      wrong(name, "a list of text")
    end
    list[index] = tostring(item)
  end
  return list
end

return input
