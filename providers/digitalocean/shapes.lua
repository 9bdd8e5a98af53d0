---Shapes of JSON answers.
---
---A shape is a function of a value and of its place in the answer ("droplets[1].id"). It returns
---what is wrong ("without droplets[1].id"), or nil. It never repeats a value: that may be secret.
local json = require "kiln.json"

local shapes = {}

---@alias kiln.digitalocean.Shape fun(value: any, place: string): string?

local function value_of(what, test)
  return function(value, place)
    if value == nil or value == json.null then return "without " .. place end
    if test(value) then return nil end
    local kind = type(value) == "table" and (json.is_array(value) and "list" or "object")
      or type(value)
    return ("with a %s as %s, where %s belongs"):format(kind, place, what)
  end
end

shapes.text = value_of("text", function(value) return type(value) == "string" end)

shapes.name = value_of("a name", function(value) return type(value) == "string" and value ~= "" end)

shapes.whole = value_of("a whole number", function(value) return math.type(value) == "integer" end)

---A snapshot's id is text in some answers of the API and a number in others.
shapes.id = value_of("an id", function(value)
  return math.type(value) == "integer" or type(value) == "string" and value:find("^%d+$") ~= nil
end)

shapes.number = value_of("a number", function(value) return type(value) == "number" end)

shapes.flag = value_of("true or false", function(value) return type(value) == "boolean" end)

local any_list = value_of("a list", json.is_array)

local any_object = value_of("an object", function(value)
  return type(value) == "table" and not json.is_array(value)
end)

---Returns the shape of a value that may be missing or null.
---@param shape kiln.digitalocean.Shape
---@return kiln.digitalocean.Shape
function shapes.optional(shape)
  return function(value, place)
    if value == nil or value == json.null then return nil end
    return shape(value, place)
  end
end

---Returns the shape of a list.
---@param shape kiln.digitalocean.Shape of its items
---@param least? integer how many there are at least (0)
---@return kiln.digitalocean.Shape
function shapes.list(shape, least)
  return function(value, place)
    local problem = any_list(value, place)
    if problem then return problem end
    for index = 1, math.max(#value, least or 0) do
      problem = shape(value[index], ("%s[%d]"):format(place, index))
      if problem then return problem end
    end
  end
end

---Returns the shape of an object. Fields that it does not name may be anything.
---@param fields table<string, kiln.digitalocean.Shape>
---@return kiln.digitalocean.Shape
function shapes.object(fields)
  local names = {}
  for field in pairs(fields) do names[#names + 1] = field end
  table.sort(names)
  return function(value, place)
    local problem = any_object(value, place)
    if problem then return problem end
    for _, field in ipairs(names) do
      problem = fields[field](value[field], place == "" and field or place .. "." .. field)
      if problem then return problem end
    end
  end
end

return shapes
