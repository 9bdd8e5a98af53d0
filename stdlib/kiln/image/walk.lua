---Walks over everything that a function of a recipe can depend on: its text and that of every
---function it can call, the values of their upvalues, the globals that they use.
---
---The walk writes one canonical list of words, in which each object has a number. The hash of the
---list is the identity. Beside it, the walk notes each part under a name that people know, to say
---later what changed.
local crypto = require "rt.crypto"
local bytecode = require "kiln.image.bytecode"
local error_ = require "kiln.error"

---@class kiln.image.Walk
---@field private known kiln.image.Known
---@field private environment kiln.Environment
---@field private run kiln.Run
---@field private inputs table<string|integer, any> what the recipe says itself
---@field private words string[]
---@field private ids table<any, integer>
---@field private count integer
---@field private queue function[] what is to be written
---@field private parts table<string, string[]>
---@field private whole table<any, true> tables of which everything is written

local walk = {}

local word_of, whole_environment -- what they lead to leads back to them

---Fields of a run that its user chose. The others differ from run to run, or from computer to
---computer, and say nothing of an image.
local of_run = { args = true, env = true, service = true, name = true, cloud_name = true }

local rank = { boolean = 1, number = 2, string = 3 }

local function before(a, b)
  local ra, rb = rank[type(a)], rank[type(b)]
  if ra ~= rb then return ra < rb end
  if ra == 1 then return not a and b end
  return a < b
end

local function sorted(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list, before)
  return list
end

local function write(self, ...)
  for index = 1, select("#", ...) do
    local word = tostring((select(index, ...)))
    self.words[#self.words + 1] = #word .. ":" .. word
  end
end

---Adds to what a part says of itself.
local function tell(self, label, text)
  local part = self.parts[label]
  if not part then
    part = {}
    self.parts[label] = part
  end
  part[#part + 1] = #text .. ":" .. text
end

---Gives the number of an object, and whether this is the first time.
local function number_of(self, object)
  local id = self.ids[object]
  if id then return id, false end
  self.count = self.count + 1
  self.ids[object] = self.count
  return self.count, true
end

local function later(self, action)
  self.queue[#self.queue + 1] = action
end

local shown = {
  userdata = "a value of C's", thread = "a coroutine", ["function"] = "a function of C's",
}

---What cannot be compared is covered by an input of its name, or refused.
local function opaque(self, value, label, name)
  if self.inputs[name] ~= nil then return "input " .. name end
  local what = crypto.is_secret(value) and "a secret" or shown[type(value)] or type(value)
  error_.raise {
    kind = "usage",
    message = ("bake %s: `build` depends on %s, which is %s: kiln cannot tell whether it changed. "
      .. "Say in `inputs` what stands for it: inputs = { %s = \"…\" }")
      :format(self.image, label, what, name),
  }
end

---Plain values as words: 1 and 1.0 differ, so do 0.0 and -0.0.
local function plain_word(value)
  local kind = math.type(value) or type(value)
  if kind == "float" then return "float " .. crypto.hex(string.pack("<d", value)) end
  if kind == "string" and #value > 64 then return "string " .. crypto.sha256(value) end
  if kind == "string" then return "text " .. value end
  return kind .. " " .. tostring(value)
end

---Writes what a recipe put into a table of kiln's own.
local function overwritten(self, value, name)
  if self.whole[value] then return end
  self.whole[value] = true
  local names = {}
  for key, field in next, value do
    if type(key) == "string" and self.known:is_recipes(field) then names[#names + 1] = key end
  end
  table.sort(names)
  for _, key in ipairs(names) do
    write(self, "overwritten", name, key, word_of(self, value[key], name .. "." .. key, key))
  end
end

---The name that an input has which stands for a field: its own, or that of the list it is in.
local function name_of(key, name)
  return type(key) == "string" and key:find "^[%a_][%w_]*$" and key or name
end

local function write_table(self, value, id, label, name)
  local keys = {}
  for key in next, value do
    if rank[type(key)] then
      keys[#keys + 1] = key
    else
      write(self, "key", opaque(self, key, ("a key of %s"):format(label), name))
    end
  end
  table.sort(keys, before)
  write(self, "table", id, #keys)
  tell(self, label, tostring(#keys))
  for _, key in ipairs(keys) do
    local field, field_label = rawget(value, key), label
    if rank[type(field)] then
      tell(self, label, plain_word(key))
    else
      field_label = label .. "." .. tostring(key)
    end
    write(self, plain_word(key), word_of(self, field, field_label, name_of(key, name)))
  end
  local meta = debug.getmetatable(value)
  if meta then
    write(self, "metatable", word_of(self, meta, label .. "'s metatable", "metatable"))
  end
end

local function table_word(self, value, label, name)
  local id = number_of(self, value)
  if not self.whole[value] then
    self.whole[value] = true
    later(self, function() write_table(self, value, id, label, name) end)
  end
  return "table " .. id
end

local function run_field(self, field, label)
  if not of_run[field] then return end
  write(self, "run", field, word_of(self, rawget(self.run, field), label .. "." .. field, field))
end

---A run that goes to another function may be asked for anything: all that a recipe gives it counts.
local function whole_run(self, label)
  for _, field in ipairs(sorted(of_run)) do run_field(self, field, label) end
  return "run"
end

---What reaches others by name: `_G.helper`, `load "return helper"`, `require "lib.helper"`.
local reaches_all = { _G = true, load = true, require = true }

local function write_global(self, name)
  local value = rawget(self.environment.env, name)
  if reaches_all[name] then whole_environment(self) end
  write(self, "global", name, word_of(self, value, "global " .. tostring(name), tostring(name)))
end

---Everything that is global, and every file that was required, with what it returned: a module's
---fields may come from a variable of the environment, or from whoever set them.
function whole_environment(self)
  if not self.whole[self.environment] then
    self.whole[self.environment] = true
    for _, path in ipairs(sorted(self.environment.sources)) do
      local digest = crypto.sha256(self.environment.sources[path])
      tell(self, "module " .. path, digest)
      write(self, "module", path, digest)
      local value = self.environment.modules[path]
      write(self, word_of(self, value, "module " .. path, path:match "([^/]+)%.lua$"))
    end
    local names = {}
    for name in next, self.environment.env do
      if not rank[type(name)] then opaque(self, name, "a global", "_G") end
      names[name] = true
    end
    for _, name in ipairs(sorted(names)) do write_global(self, name) end
  end
  return "environment"
end

---Writes the fields of a table that a function names, and no others.
local function write_fields(self, value, use, label, name)
  local id = number_of(self, value)
  write(self, "fields of", id)
  local wanted = {}
  for _, kind in ipairs { use.fields, use.methods } do
    for field in pairs(kind) do wanted[field] = true end
  end
  for _, field in ipairs(sorted(wanted)) do
    local field_label = self.known.names[value] and name .. "." .. field or label .. "." .. field
    write(self, field, word_of(self, rawget(value, field), field_label, field))
  end
end

---Whether only the named fields of a table can matter: it is not handed on, and its metatable does
---not answer for it.
local function by_fields(value, use)
  if use.whole or type(value) ~= "table" then return false end
  local meta = debug.getmetatable(value)
  if not meta then return next(use.methods) == nil end
  if next(use.methods) or next(use.set) then return false end
  for field in pairs(use.fields) do
    if rawget(value, field) == nil then return false end
  end
  return true
end

local function write_upvalue(self, fn, index, use)
  local name, value = debug.getupvalue(fn, index)
  local cell = number_of(self, debug.upvalueid(fn, index))
  write(self, "upvalue", index, cell)
  if value == self.environment.env and not use.whole and not next(use.methods) then
    for _, global in ipairs(sorted(use.fields)) do write_global(self, global) end
  elseif value == self.run and not use.whole then
    for _, field in ipairs(sorted(use.fields)) do run_field(self, field, name) end
  elseif by_fields(value, use) then
    write_fields(self, value, use, name, name)
  elseif use.whole or next(use.fields) or next(use.methods) or next(use.set) then
    write(self, word_of(self, value, "upvalue " .. name, name))
  end
end

local function write_function(self, fn, id, label)
  local code = bytecode.read(fn)
  write(self, "function", id, code.digest)
  tell(self, label, code.digest)
  for _, index in ipairs(sorted(code.uses)) do write_upvalue(self, fn, index, code.uses[index]) end
end

local function function_word(self, fn, name)
  local id, is_new = number_of(self, fn)
  if is_new then
    local path = self.known:path(fn) or "kiln"
    later(self, function() write_function(self, fn, id, ("`%s` in %s"):format(name, path)) end)
  end
  return "function " .. id
end

---Gives the word for a value; what it consists of is written later. `label` is what people call it:
---"upvalue PORT"; `name` the last name in that: "PORT".
function word_of(self, value, label, name)
  local kind = type(value)
  if kind == "nil" or rank[kind] then
    local word = plain_word(value)
    tell(self, label, word)
    return word
  end
  if value == self.run then return whole_run(self, label) end
  if value == rawget(self.run, "cloud") then return "cloud" end
  if value == self.environment.env then return whole_environment(self) end
  local own = self.known.names[value]
  if own then
    if kind == "table" then later(self, function() overwritten(self, value, own) end) end
    return "kiln " .. own
  end
  if kind == "table" then return table_word(self, value, label, name) end
  if kind ~= "function" or debug.getinfo(value, "S").what == "C" then
    return opaque(self, value, label, name)
  end
  return function_word(self, value, name)
end

---Walks from functions and values.
---@param opts { image: string, run: kiln.Run, environment: kiln.Environment,
---  known: kiln.image.Known, inputs: table, roots: { label: string, name: string, value: any }[] }
---@return string digest
---@return table<string, string> parts digests by what people call them
function walk.from(opts)
  local self = {
    image = opts.image, run = opts.run, environment = opts.environment, known = opts.known,
    inputs = opts.inputs, words = {}, ids = {}, count = 0, queue = {}, parts = {}, whole = {},
  }
  for _, root in ipairs(opts.roots) do
    write(self, "root", root.label, word_of(self, root.value, root.label, root.name))
  end
  local at = 1
  while self.queue[at] do
    self.queue[at]()
    at = at + 1
  end
  local parts = {}
  for label, texts in pairs(self.parts) do
    parts[label] = crypto.sha256(table.concat(texts)):sub(1, 16)
  end
  return crypto.sha256(table.concat(self.words)), parts
end

return walk
