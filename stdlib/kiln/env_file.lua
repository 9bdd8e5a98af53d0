---Files of variables as systemd reads them: EnvironmentFile= of a unit (systemd.exec(5)).
local error_ = require "kiln.error"
local secret = require "kiln.secret"

local env_file = {}

local function invalid(format, ...)
  error_.raise { kind = "invalid", message = format:format(...) }
end

---Quotes a value: in double quotes, where systemd takes all but these four characters as they are.
---systemd ignores a variable that is not UTF-8 or has a control character, so both are refused.
local function quote(name, value)
  if not utf8.len(value) then
    invalid("environment variable %s is not UTF-8: systemd would ignore it", name)
  end
  if value:find("[^%C\t\n]") then
    invalid("environment variable %s has a control character: systemd would ignore it", name)
  end
  return '"' .. value:gsub('[\\"$`]', "\\%0") .. '"'
end

local function line(name, value)
  if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
    invalid("'%s' is no name of an environment variable", tostring(name))
  end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    invalid("environment variable %s must be text, a number, a boolean or a secret, not a %s", name,
      kind)
  end
  return name .. "=" .. quote(name, tostring(value)) .. "\n"
end

---Writes variables as the text of an environment file, in the order of their names.
---Raises `invalid` for what is no variable's name, and for a value that systemd would ignore.
---@param variables table<string, string|number|boolean|userdata>
---@return string|userdata text a secret when one of them is
function env_file.text(variables)
  return secret.encode(variables, function(open)
    local names, lines = {}, {}
    for name in pairs(open) do names[#names + 1] = name end
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    for index, name in ipairs(names) do lines[index] = line(name, open[name]) end
    return table.concat(lines)
  end)
end

return env_file
