---What differs between an operation in the journal and the one that a recipe asks for.
local json = require "rt.json"

local difference = {}

local BYTES = { bytes = "keep" }

---Sealed texts show a mark in the place of each secret.
local function unmarked(value)
  if type(value) ~= "string" then return value end
  return (value:gsub("^\1\2", ""):gsub("\1[^\1\2]+\2", "<secret>"))
end

local function shown(value)
  if value == nil then return "nothing" end
  return json.encode(unmarked(value), BYTES)
end

---Texts of several lines are compared line by line, from the first that differs.
local function first_line(kept, now)
  local old, new = {}, {}
  for line in (kept .. "\n"):gmatch("(.-)\n") do old[#old + 1] = line end
  for line in (now .. "\n"):gmatch("(.-)\n") do new[#new + 1] = line end
  if #old == 1 and #new == 1 then return kept, now, nil end
  local index = 1
  while old[index] == new[index] do index = index + 1 end
  return old[index], new[index], index
end

local function compare(lines, name, kept, now)
  if type(kept) == "table" and type(now) == "table" then
    local keys = {}
    for key in pairs(kept) do keys[#keys + 1] = key end
    for key in pairs(now) do
      if kept[key] == nil then keys[#keys + 1] = key end
    end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for _, key in ipairs(keys) do
      compare(lines, name == "" and tostring(key) or name .. "." .. key, kept[key], now[key])
    end
    return
  end
  if kept ~= nil and now ~= nil and json.encode(kept, BYTES) == json.encode(now, BYTES) then
    return
  end
  local line
  if type(kept) == "string" and type(now) == "string" then
    kept, now, line = first_line(kept, now)
  end
  local where = name .. (line and (", line %d"):format(line) or "")
  lines[#lines + 1] = ("%s: journal %s"):format(where, shown(kept))
  lines[#lines + 1] = ("%s  today   %s"):format((" "):rep(#where), shown(now))
end

---Compares arguments.
---@param kept string JSON, from the journal
---@param now string JSON, what the recipe asks for
---@return string[] lines two for each thing that differs
function difference.lines(kept, now)
  local lines = {}
  compare(lines, "", json.decode(kept, BYTES), json.decode(now, BYTES))
  return lines
end

return difference
