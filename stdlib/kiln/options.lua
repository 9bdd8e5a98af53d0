---Checks tables of options: unknown names, missing ones and values of the wrong kind are errors.
local error_ = require "kiln.error"

local options = {}

---Returns how many letters must change to make one word from another (Levenshtein).
local function distance(a, b)
  local row = {}
  for column = 0, #b do row[column] = column end
  for line = 1, #a do
    local diagonal = row[0]
    row[0] = line
    for column = 1, #b do
      local above = row[column]
      local changed = a:byte(line) == b:byte(column) and 0 or 1
      row[column] = math.min(above + 1, row[column - 1] + 1, diagonal + changed)
      diagonal = above
    end
  end
  return row[#b]
end

---Returns the name that a mistyped one most probably means.
---@param wanted string
---@param names string[]
---@return string? name nil when none is near
function options.nearest(wanted, names)
  local best, least = nil, math.max(2, #wanted // 3) + 1
  for _, name in ipairs(names) do
    local away = distance(wanted, name)
    if away < least then best, least = name, away end
  end
  return best
end

---Returns the words that end a message about a mistyped name; "" when no known name is near.
---@param wanted string
---@param names string[]
---@return string
function options.meant(wanted, names)
  local near = options.nearest(wanted, names)
  return near and ("; did you mean '%s'?"):format(near) or ""
end

local function fail(what, text, ...)
  error_.raise { kind = "usage", message = what .. ": " .. text:format(...) }
end

local function sorted_names(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

---Tells whether a value is of a kind: a Lua type, "integer", "seconds" (a number, not negative),
---"any", or some of these with "|" between.
local function is_of(value, kinds)
  for kind in kinds:gmatch("[^|]+") do
    if kind == "any" or type(value) == kind or math.type(value) == kind
      or kind == "seconds" and type(value) == "number" and value >= 0 then return true end
  end
  return false
end

---Checks a table of options. Raises `usage` that names the option, and the nearest known name for
---an unknown one.
---@param what string whose options they are, for the message: "blue_green"
---@param given table
---@param known table<string, string> the kind of each option, as in "string" or "number|string";
---  with "?" at the end it may be left out
function options.check(what, given, known)
  if type(given) ~= "table" then
    fail(what, "expected a table of options, got %s", type(given))
  end
  local names = sorted_names(known)
  for name in pairs(given) do
    if known[name] == nil then
      fail(what, "unknown option '%s'%s", tostring(name), options.meant(tostring(name), names))
    end
  end
  for _, name in ipairs(names) do
    local kinds, may_lack = known[name]:gsub("%?$", "")
    local value = given[name]
    if value == nil and may_lack == 0 then fail(what, "option '%s' is missing", name) end
    if value ~= nil and not is_of(value, kinds) then
      fail(what, "option '%s' must be %s, not %s", name, (kinds:gsub("|", " or ")),
        type(value) == "number" and tostring(value) or type(value))
    end
  end
end

return options
