---JSON for recipes and providers: whole numbers stay whole, `null` is not absent, an empty array is
---not an empty object.
local rt_json = require "rt.json"
local error_ = require "kiln.error"
local secret = require "kiln.secret"

local json = {}

---What `null` is in a table.
json.null = rt_json.null

---Writes a value as JSON with sorted keys. Raises for what JSON cannot carry, naming the place.
---@param value any
---@param opts? { pretty: boolean?, sorted: boolean? }
---@return string|userdata text a secret when the value has one in it
function json.encode(value, opts)
  return secret.encode(value, function(open) return rt_json.encode(open, opts) end)
end

---Reads JSON (RFC 8259). Raises `invalid` with the line and the column of what is wrong.
---@param text string
---@param opts? { last_wins: boolean? } of a key that comes twice the last is taken (false)
---@return any value
function json.decode(text, opts)
  local value, err = rt_json.decode(text, opts)
  if err then error(error_.from(err), 0) end
  return value
end

---Marks a table as an array, so that it is one even when empty.
---@param list? table ({})
---@return table list the same table
function json.array(list)
  return rt_json.array(list)
end

---Tells whether a value would be written as an array.
---@param value any
---@return boolean
function json.is_array(value)
  return rt_json.is_array(value)
end

return json
