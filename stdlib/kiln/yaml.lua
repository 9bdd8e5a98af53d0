---YAML for drivers and recipes.
local rt_yaml = require "rt.yaml"
local error_ = require "kiln.error"

local yaml = {}

---Reads a document. Raises `invalid` with the line.
---@param text string
---@return any value
function yaml.decode(text)
  return error_.check(rt_yaml.decode(text))
end

---Writes a value as a document.
---@param value any
---@return string text
function yaml.encode(value)
  return rt_yaml.encode(value)
end

return yaml
