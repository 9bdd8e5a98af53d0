---Reads what Lua's compiler made of a function: a digest that changes with what the function does,
---and not with where it stands, its comments or its local names; and how it uses its upvalues.
---
---The form is that of `string.dump` in Lua 5.4 (ldump.c, lopcodes.h): a header, then a function
---with its constants, its upvalues and the functions inside it.
local crypto = require "rt.crypto"

local bytecode = {}

---How a function, or one inside it, uses an upvalue.
---@class kiln.image.Use
---@field whole boolean its value goes somewhere else: all of it matters
---@field fields table<string, true> constant keys that are read: `args.version`
---@field methods table<string, true> constant names that are called: `run:note(…)`
---@field set table<string, true> constant keys that are written

---@class kiln.image.Code
---@field digest string
---@field uses kiln.image.Use[] by the upvalue's number

local HEADER = "\27Lua\x54\0\x19\x93\r\n\x1a\n\4\8\8" -- version 5.4, format 0, sizes of numbers
local GETUPVAL, SETUPVAL, GETTABUP, SETTABUP, SELF = 9, 10, 11, 15, 20

---@class kiln.image.Reader
---@field text string
---@field at integer

local function take(self, format)
  local value
  value, self.at = string.unpack(format, self.text, self.at)
  return value
end

---Reads a number: seven bits a byte, the highest first; the last byte has its high bit set.
local function take_number(self)
  local value = 0
  while true do
    local byte = take(self, "B")
    value = value << 7 | byte & 0x7F
    if byte & 0x80 ~= 0 then return value end
  end
end

local function skip(self, bytes)
  self.at = self.at + bytes
end

local function take_string(self)
  local size = take_number(self)
  if size == 0 then return nil end
  return take(self, "c" .. size - 1)
end

local function instructions(reader)
  local list = {}
  for index = 1, take_number(reader) do
    local word = take(reader, "<I4")
    list[index] = {
      op = word & 0x7F, a = word >> 7 & 0xFF, k = word >> 15 & 1, b = word >> 16 & 0xFF,
      c = word >> 24 & 0xFF,
    }
  end
  return list
end

local readers = {
  [0x03] = function(reader) return take(reader, "<i8") end,
  [0x13] = function(reader) return take(reader, "<d") end,
  [0x04] = take_string, [0x14] = take_string,
  [0x00] = function() end, [0x01] = function() end, [0x11] = function() end, -- nil, false, true
}

local function constants(reader)
  local list = {}
  for index = 0, take_number(reader) - 1 do list[index] = readers[take(reader, "B")](reader) end
  return list
end

local function use_of(uses, index)
  uses[index] = uses[index] or { whole = false, fields = {}, methods = {}, set = {} }
  return uses[index]
end

---Notes what one function does with its own upvalues.
local function note_uses(uses, code, names)
  for at, one in ipairs(code) do
    local following = code[at + 1]
    if one.op == GETTABUP then
      use_of(uses, one.b + 1).fields[names[one.c]] = true
    elseif one.op == SETTABUP then
      use_of(uses, one.a + 1).set[names[one.b]] = true
    elseif one.op == SETUPVAL then
      use_of(uses, one.b + 1)
    elseif one.op == GETUPVAL then
      local called = following and following.op == SELF and following.b == one.a
        and following.a == one.a and following.k == 1
      if called then
        use_of(uses, one.b + 1).methods[names[following.c]] = true
      else
        use_of(uses, one.b + 1).whole = true
      end
    end
  end
end

---Adds how an inner function uses an upvalue to how its outer one does.
local function merge(into, from)
  into.whole = into.whole or from.whole
  for _, kind in ipairs { "fields", "methods", "set" } do
    for name in pairs(from[kind]) do into[kind][name] = true end
  end
end

---Reads one function and those inside it; adds to `parts` all of it but its place in the file.
---Where the outermost one finds its upvalues in the function around it is left out, too.
local function read_function(reader, parts, inside)
  take_string(reader) -- the source: none in a stripped function
  take_number(reader) -- first and last line
  take_number(reader)
  local from = reader.at
  skip(reader, 3) -- parameters, whether it takes more, registers
  local code = instructions(reader)
  local names = constants(reader)
  local upvalues, until_upvalues = {}, reader.at
  for index = 1, take_number(reader) do
    local in_stack = take(reader, "B")
    upvalues[index] = { of_outer = in_stack == 0, index = take(reader, "B") }
    skip(reader, 1) -- its kind
  end
  parts[#parts + 1] = reader.text:sub(from, (inside and reader.at or until_upvalues) - 1)
  local inner = take_number(reader)
  parts[#parts + 1] = ("%d functions inside"):format(inner)

  local uses = {}
  note_uses(uses, code, names)
  for _ = 1, inner do
    local inner_uses, inner_upvalues = read_function(reader, parts, true)
    for index, upvalue in ipairs(inner_upvalues) do
      if upvalue.of_outer and inner_uses[index] then
        merge(use_of(uses, upvalue.index + 1), inner_uses[index])
      end
    end
  end
  for _ = 1, 4 do -- lines, absolute lines, local names, upvalue names: stripped
    assert(take_number(reader) == 0, "a stripped function has no debug information")
  end
  return uses, upvalues
end

---Reads a Lua function.
---@param fn function
---@return kiln.image.Code
function bytecode.read(fn)
  local text = string.dump(fn, true)
  assert(text:sub(1, #HEADER) == HEADER, "functions are read in the form of Lua 5.4")
  local reader = { text = text, at = #HEADER + 8 + 8 + 1 + 1 }
  local parts = {}
  local uses = read_function(reader, parts)
  return { digest = crypto.sha256(table.concat(parts)), uses = uses }
end

return bytecode
