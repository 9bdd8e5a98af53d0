---Reads types as LuaCATS writes them, and tells whether a value is of one.
---
---Of the grammar, this is what the comments of kiln use: names, literals, unions, `T[]`, `T?`,
---`table<K, V>`, `fun(…): T`, `{ name: T, other: T? }` and parentheses.
local types = {}

---@class kiln.Type
---@field names string[] Lua's types, "integer", or "any"
---@field literals table<any, true> single values
---@field optional boolean
---@field element? kiln.Type of a list
---@field fields? table<string, kiln.Type> of a table of options
---@field sorted? string[] their names, once they were asked for
---@field open? boolean other fields may be there, too
---@field class? string a class by name: its fields are elsewhere

local lua_types = {
  string = true, number = true, integer = true, boolean = true, table = true, userdata = true,
  thread = true, ["function"] = true, any = true,
}

local read -- a type may have others in it

local function new(name)
  return { names = { name }, literals = {}, optional = false }
end

---Takes a pattern's match from the text at the place where the reader is.
local function take(reader, pattern)
  local from, to, found = reader.text:find("^%s*(" .. pattern .. ")", reader.at)
  if not from then return nil end
  reader.at = to + 1
  return found
end

local function read_fields(reader)
  local type_ = new "table"
  type_.fields = {}
  while not take(reader, "}") do
    if take(reader, "%[") then
      read(reader)
      take(reader, "%]")
      type_.open = true
    end
    local name = take(reader, "[%a_][%w_]*")
    local optional = take(reader, "%?")
    if not take(reader, ":") then return nil end
    local field = read(reader)
    if not field then return nil end
    field.optional = field.optional or optional ~= nil
    if name then type_.fields[name] = field end
    take(reader, ",")
  end
  return type_
end

local function read_function(reader)
  take(reader, "%b()")
  if take(reader, ":") then
    repeat read(reader) until not take(reader, ",")
  end
  return new "function"
end

local function read_name(reader)
  local name = take(reader, "[%a_][%w_.]*")
  if not name then return nil end
  if name == "fun" then return read_function(reader) end
  if name == "table" then take(reader, "%b<>") end
  if lua_types[name] then return new(name) end
  local type_ = new(name:find(".", 1, true) and "table" or "any") -- a generic's letter is any
  if name == "nil" then
    type_.names, type_.optional = {}, true
  elseif name == "true" or name == "false" then
    type_.names, type_.literals = {}, { [name == "true"] = true }
  elseif type_.names[1] == "table" then
    type_.names[2], type_.class = "userdata", name
  end
  return type_
end

local function read_one(reader)
  local type_
  local literal = take(reader, '"[^"]*"')
  if literal then
    type_ = { names = {}, literals = { [literal:sub(2, -2)] = true }, optional = false }
  elseif take(reader, "%(") then
    type_ = read(reader)
    take(reader, "%)")
  elseif take(reader, "{") then
    type_ = read_fields(reader)
  else
    type_ = read_name(reader)
  end
  while type_ do
    if reader.text:find("^%[%]", reader.at) then
      local list = new "table"
      list.element, type_ = type_, list
      reader.at = reader.at + 2
    elseif reader.text:find("^%?", reader.at) then
      type_.optional = true
      reader.at = reader.at + 1
    else
      return type_
    end
  end
end

---Joins the types of a union. Of several tables none is looked into: which one is meant is not
---known.
local function join(a, b)
  local several = (a.fields or a.element or a.class) and (b.fields or b.element or b.class)
  table.move(b.names, 1, #b.names, #a.names + 1, a.names)
  for value in pairs(b.literals) do a.literals[value] = true end
  a.optional = a.optional or b.optional
  for _, part in ipairs { "fields", "open", "element", "class" } do
    if several then a[part] = nil else a[part] = a[part] or b[part] end
  end
  return a
end

function read(reader)
  local type_ = read_one(reader)
  while type_ and take(reader, "|") do
    local other = read_one(reader)
    if not other then return nil end
    type_ = join(type_, other)
  end
  return type_
end

---Reads a type at the start of a text; what follows is its description.
---@param text string
---@return kiln.Type? type nil for what is no type
function types.read(text)
  return read { text = text, at = 1 }
end

---Tells whether a value is of a type, as far as that is seen without looking into a table. A
---secret passes as text: what may not have one refuses it itself.
---@param type_ kiln.Type
---@param value any
---@return boolean
function types.fits(type_, value)
  if value == nil then return type_.optional or type_.names[1] == "any" end
  if type_.literals[value] then return true end
  local kind = type(value)
  for _, name in ipairs(type_.names) do
    if name == "any" or name == kind or name == "string" and kind == "userdata"
      or name == "integer" and kind == "number" and math.tointeger(value) ~= nil then
      return true
    end
    local meta = name == "function" and getmetatable(value)
    if type(meta) == "table" and meta.__call then return true end
  end
  return false
end

local words = {
  string = "a string", number = "a number", integer = "a whole number", boolean = "true or false",
  table = "a table", ["function"] = "a function", userdata = "a secret", thread = "a coroutine",
}

---Says what a type is, for a message: "a string or a number".
---@param type_ kiln.Type
---@return string
function types.describe(type_)
  local list, seen = {}, {}
  local function add(word)
    if not seen[word] then list[#list + 1] = word end
    seen[word] = true
  end
  for _, name in ipairs(type_.names) do
    local of_class = name == "userdata" and type_.class
    if not of_class then add(words[name] or name) end
  end
  local literals = {}
  for value in pairs(type_.literals) do
    literals[#literals + 1] = type(value) == "string" and ('"%s"'):format(value) or tostring(value)
  end
  table.sort(literals)
  for _, value in ipairs(literals) do add(value) end
  if #list == 1 then return list[1] end
  return table.concat(list, ", ", 1, #list - 1) .. " or " .. list[#list]
end

return types
