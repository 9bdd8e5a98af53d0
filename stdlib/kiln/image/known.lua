---What is kiln's own among the values that a recipe can reach: its modules, Lua's libraries, the
---functions of a recipe's environment. They stand for themselves by name; the version of kiln is
---part of every image's identity.
local trace = require "kiln.trace"

local known = {}

local libraries = {
  _G = true, coroutine = true, debug = true, io = true, math = true, os = true, string = true,
  table = true, utf8 = true,
}

local plain = { ["nil"] = true, boolean = true, number = true, string = true }

---@class kiln.image.Known
---@field names table<any, string>
---@field private chunks table<string, string>
local Known = {}
Known.__index = Known

---Tells in which file of the recipe a function was written.
---@param fn function
---@return string? path below the recipe's folder; nil for kiln's own
function Known:path(fn)
  local info = debug.getinfo(fn, "S")
  return info.what ~= "C" and self.chunks[info.source] or nil
end

---Tells whether a recipe wrote a function, maybe into one of kiln's modules.
---@param value any
---@return boolean
function Known:is_recipes(value)
  return type(value) == "function" and self:path(value) ~= nil
end

local function sorted_names(set)
  local names = {}
  for name in next, set do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

---Names a value and what is in it. A value with two names keeps the first, so the order is fixed:
---the names are part of every image's identity.
local function add(self, value, name, depth)
  if plain[type(value)] or self.names[value] or self:is_recipes(value) then return end
  self.names[value] = name
  if type(value) ~= "table" or depth == 0 then return end
  for _, key in ipairs(sorted_names(value)) do
    add(self, rawget(value, key), name .. "." .. key, depth - 1)
  end
end

---Collects the names.
---@param environment kiln.Environment the recipe's
---@return kiln.image.Known
function known.of(environment)
  local names = setmetatable({}, { __index = function(_, value)
    return type(value) == "function" and trace.name_of(value) or nil -- a method
  end })
  local self = setmetatable({ names = names, chunks = environment.chunks }, Known)
  for _, name in ipairs(sorted_names(package.loaded)) do
    if libraries[name] or name:find "^kiln%." or name:find "^rt%." then
      add(self, package.loaded[name], name, 2)
    end
  end
  local faces = {} -- two may have one name: what a recipe gets and what kiln's own recipes get
  for module, name in next, environment.faces do faces[#faces + 1] = { name, module } end
  table.sort(faces, function(a, b) return a[1] < b[1] end)
  for _, face in ipairs(faces) do add(self, face[2], face[1], 2) end
  for _, name in ipairs(sorted_names(environment.standard)) do
    add(self, environment.standard[name], name, 2)
  end
  return self
end

return known
