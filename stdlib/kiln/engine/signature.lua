---Checks the arguments of kiln's functions where a recipe calls them, by the comments above them:
---what they say of a parameter is what is accepted. A wrong type, and an option that is not known,
---are errors before anything is done.
local host = require "rt.host"
local error_ = require "kiln.error"
local options = require "kiln.options"
local trace = require "kiln.trace"
local types = require "kiln.engine.types"

local signature = {}

---@class kiln.Parameter
---@field name string
---@field type kiln.Type

---The lines of kiln's files that were read.
---@type table<string, string[]|false>
local files = {}

---The checked function of each function.
---@type table<function, function>
local checked = setmetatable({}, { __mode = "k" })

local function lines_of(path)
  if files[path] == nil then
    local text, lines = host.source(path), {}
    for line in ((text or "") .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = line end
    files[path] = text and lines or false
  end
  return files[path]
end

---Returns what a tag at a line says, with the lines that go on with it.
local function tag_at(lines, number, tag)
  local text = lines[number]:match("^%-%-%-@" .. tag .. " (.*)$")
  if not text then return nil end
  while (lines[number + 1] or ""):find("^%-%-%-  %S") do
    number = number + 1
    text = text .. " " .. lines[number]:match("^%-%-%-%s+(.*)$")
  end
  return text
end

---Reads the fields of a class below its line.
---@return table<string, kiln.Type>? fields nil for an object of kiln's, which has private ones
local function read_fields(lines, number)
  local fields = {}
  while (lines[number] or ""):find("^%-%-%-") do
    local text = tag_at(lines, number, "field")
    local field, optional, rest = (text or ""):match("^([%a_][%w_]*)(%??) (.*)$")
    if field == "private" then return nil end
    if field then
      fields[field] = types.read(rest)
      if not fields[field] then return nil end
      fields[field].optional = fields[field].optional or optional == "?"
    end
    number = number + 1
  end
  return next(fields) and fields or nil
end

---Finds the line of a class in a file, or in those that it requires.
---@return string[]? lines
---@return integer? number
local function find_class(class, path, seen)
  local lines = not seen[path] and lines_of(path)
  seen[path] = true
  if not lines then return nil end
  for number, line in ipairs(lines) do
    if line:match("^%-%-%-@class ([%w_.]+)") == class then return lines, number end
  end
  for _, line in ipairs(lines) do
    local module = line:match('require "(kiln%.[%w_.]+)"')
    if module then
      local found, number = find_class(class, "stdlib/" .. module:gsub("%.", "/") .. ".lua", seen)
      if found then return found, number end
    end
  end
end

---Gives types that are classes their fields. A class that another one begins is open.
local function resolve(path, type_)
  if type_.class and type_.class:find("^kiln%.") then
    local lines, number = find_class(type_.class, path, {})
    if lines then
      type_.fields = read_fields(lines, number + 1)
      type_.open = lines[number]:find(":", 1, true) ~= nil
    end
  end
  if type_.element then resolve(path, type_.element) end
  return type_
end

---@class kiln.Signature
---@field parameters kiln.Parameter[] without the object of a method
---@field method boolean it is called with a colon
---@field own boolean `@package`: it is not for recipes

---Reads the comment above a function.
---@return kiln.Signature? signature nil where it names no parameter
local function read(fn)
  local info = debug.getinfo(fn, "S")
  local path = info.source:sub(2)
  local lines = info.what ~= "C" and lines_of(path)
  if not lines or not lines[info.linedefined] then return nil end
  local first = info.linedefined
  while (lines[first - 1] or ""):find("^%-%-%-") do first = first - 1 end
  local made = { parameters = {}, own = false,
    method = lines[info.linedefined]:find("^function [%w_.]+:") ~= nil }
  for number = first, info.linedefined - 1 do
    made.own = made.own or lines[number] == "---@package"
    local text = tag_at(lines, number, "param")
    local name, optional, rest = (text or ""):match("^([%a_][%w_]*)(%??) (.*)$")
    local type_ = name and types.read(rest)
    if name == "self" then
      made.method = true
    elseif type_ then
      type_.optional = type_.optional or optional == "?"
      table.insert(made.parameters, { name = name, type = resolve(path, type_) })
    end
  end
  return (made.parameters[1] or made.method) and made or nil
end

local function fail(name, text, ...)
  error_.raise { kind = "usage", message = name .. ": " .. text:format(...) }
end

---Says what a value is. A text is shown only where one of a few words is meant, or where it is a
---number: another one may be what nobody should see.
local function shown(type_, value)
  if type(value) == "string" and #value <= 40 and (next(type_.literals) or tonumber(value)) then
    return ('the string "%s"'):format(value)
  end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return value == nil and "nil" or "a " .. (type(value) == "userdata" and "secret" or type(value))
end

---The names of a type's fields, sorted.
local function names_of(type_)
  if not type_.sorted then
    type_.sorted = {}
    for field in pairs(type_.fields) do table.insert(type_.sorted, field) end
    table.sort(type_.sorted)
  end
  return type_.sorted
end

local look_into -- what is in a table may be tables

---Checks one value; `what` names it: "option 'timeout'".
local function check(name, what, type_, value)
  if not types.fits(type_, value) then
    if value == nil and what:find(" ", 1, true) then fail(name, "%s is missing", what) end
    fail(name, "%s must be %s, not %s", what, types.describe(type_), shown(type_, value))
  end
  if type(value) == "table" and getmetatable(value) == nil then
    look_into(name, what, type_, value)
  end
end

function look_into(name, what, type_, value)
  if type_.element then
    for index, item in ipairs(value) do
      check(name, ("%s[%d]"):format(what, index), type_.element, item)
    end
  end
  if not type_.fields then return end
  local known = names_of(type_)
  local field_of = what:find("^'opt") and "option" or "field"
  for field in next, value do
    if not type_.fields[field] and not type_.open then
      fail(name, "unknown %s '%s'%s", field_of, tostring(field),
        options.meant(tostring(field), known))
    end
  end
  for _, field in ipairs(known) do
    check(name, ("%s '%s'"):format(field_of, field), type_.fields[field], value[field])
  end
end

---Tells whether a recipe called the function that asks, by itself or through Lua's `pcall`.
local function from_recipe()
  local level = 4
  while true do
    local info = debug.getinfo(level, "S")
    if not info or info.what ~= "C" then return info and trace.is_recipes(info.source) end
    level = level + 1
  end
end

local function check_call(name, made, ...)
  if made.own and from_recipe() then fail(name, "this is kiln's own, and not for recipes") end
  if made.method and (type((...)) ~= "table" or getmetatable((...)) == nil) then
    fail(name, "write %s(…), with the object before the colon", name)
  end
  local offset = made.method and 1 or 0
  for index, parameter in ipairs(made.parameters) do
    check(name, ("'%s'"):format(parameter.name), parameter.type, (select(index + offset, ...)))
  end
end

---Returns what it is given: a call that is not the last thing keeps its place in the traceback.
local function pass(...)
  return ...
end

---Returns a function that checks its arguments before it calls the one that is given.
---@param name string as recipes call it: "http.get", "machine:run"
---@param fn function
---@param documented? function whose comment says what is accepted, where that of `fn` does not
---@return function
function signature.checked(name, fn, documented)
  if checked[fn] then return checked[fn] end
  local made
  local function with_check(...)
    if made == nil then made = read(fn) or documented and read(documented) or false end
    if made then check_call(name, made, ...) end
    return pass(fn(...))
  end
  checked[fn], checked[with_check] = with_check, with_check
  trace.name(with_check, name)
  return with_check
end

---Checks the arguments of a class's methods.
---@generic T: table
---@param name string what recipes call an object of it: "machine"
---@param class T
---@return T class the same
function signature.class(name, class)
  for key, item in next, class do
    if type(item) == "function" and type(key) == "string" and not key:find("^__") then
      class[key] = signature.checked(name .. ":" .. key, item)
    end
  end
  return class
end

return signature
