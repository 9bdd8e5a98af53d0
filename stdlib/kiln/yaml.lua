---YAML for drivers and recipes.
local rt_yaml = require "rt.yaml"
local error_ = require "kiln.error"
local secret = require "kiln.secret"

local yaml = {}

---Reads a document. Raises `invalid` with the line; `unsupported` for tags and merge keys.
---@param text string
---@return any value
function yaml.decode(text)
  return error_.check(rt_yaml.decode(text))
end

---Writes a value as a document.
---@param value any
---@return string|userdata text a secret when the value has one in it
function yaml.encode(value)
  return secret.encode(value, rt_yaml.encode)
end

return yaml
