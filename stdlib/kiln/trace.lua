---Where an error came from: the line of the recipe that led to it, before the message.
---
---One message handler, `trace.handler`, serves wherever kiln catches an error. It looks through the
---calls that were under way, from the innermost one out, for the first that lies in a file of the
---recipe; and where a task has none, in the task that started it.
local task = require "rt.task"
local error_ = require "kiln.error"

local trace = {}

local DEEPEST = 200 -- calls of a coroutine that are looked through

---The recipes' files: their texts by the source that `debug.getinfo` names.
---@type table<string, string>
local texts = {}

---What recipes call kiln's functions: "http.get".
---@type table<function, string>
local names = setmetatable({}, { __mode = "k" })

---Kinds of errors that a recipe's line helps to understand: it asked for what cannot be. The others
---name the step and the machine where the world failed.
local of_recipe = {
  usage = true, invalid = true, unsupported = true, not_found = true, error = true,
}

---Makes a file known as one of a recipe's.
---@param source string "@app.lua"
---@param text string
function trace.know_file(source, text)
  texts[source] = text
end

---Tells whether a file is one of a recipe's.
---@param source string "@app.lua"
---@return boolean
function trace.is_recipes(source)
  return texts[source] ~= nil
end

---Names a function of kiln's as recipes call it.
---@param fn function
---@param name string "http.get"
function trace.name(fn, name)
  names[fn] = names[fn] or name
end

---Returns what recipes call a function.
---@param fn function
---@return string? name
function trace.name_of(fn)
  return names[fn]
end

local function place(source, line)
  return ("%s:%d"):format(source:sub(2), line)
end

---Returns the line of the only `return f(…)` of a function, else where it begins: a call that is
---returned leaves no trace of its line.
local function line_within(fn)
  local info = debug.getinfo(fn, "SL")
  local text = texts[info.source]
  if not text then return nil end
  local number, found, count = 0, info.linedefined, 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    if info.activelines[number] and line:find("%f[%w_]return%s+[%a_][%w_.:]*%s*[%(%{\"']") then
      found, count = number, count + 1
    end
  end
  return place(info.source, count == 1 and found or info.linedefined)
end

---Finds the innermost call in a recipe's file.
---@return string? place "app.lua:12"
---@return function? called what was called there
local function find_here()
  local called
  for level = 3, DEEPEST do
    local info = debug.getinfo(level, "Slf")
    if not info then return nil end
    if texts[info.source] and info.currentline > 0 then
      return place(info.source, info.currentline), called
    end
    called = info.func
  end
end

---Finds the recipe's line that led here: among the calls under way, in the function that the task
---began with, or where the task was started.
---@return string? place "app.lua:12"
---@return function? called what was called there
function trace.find()
  local found, called = find_here()
  if found then return found, called end
  local state = task.current() and task.locals().scope
  if not state then return nil end
  return state.body and line_within(state.body) or state.started_at
end

---Says what a primitive says of its argument, or Lua of a fault in kiln's own code, without the
---place in kiln: the traceback has that.
---@return string message
---@return boolean refused a primitive refused its argument
local function of_call(message, called)
  local text = message:match("^stdlib/[%w_/.]+:%d+: (.*)$")
    or message:match("^recipes/[%w_/.]+:%d+: (.*)$")
    or message:match("^providers/[%w_/.]+:%d+: (.*)$")
  if not text then return message, false end
  local name = called and names[called] or "this call"
  if text:find("^attempt to ") then
    return ("%s cannot work with what it was given: %s"):format(name, text), false
  end
  text = text:match("^bad argument #%d+ to '[^']*' %((.*)%)$") or text
  return ("%s: %s"):format(name, text), true
end

---Writes the recipe's line before the message of an error, once, and in `at` of any error.
local function locate(err)
  if err.at or error_.halts(err) or error_.is(err, "cancelled") then return end
  local found, called = trace.find()
  if not found then return end
  err.at = found
  if not of_recipe[err.kind] then return end
  local own = err.message:match("^(.-):%d+: ") -- Lua named a line of the recipe's itself
  if own and texts["@" .. own] then return end
  local message, refused = of_call(err.message, called)
  err.message = ("%s: %s"):format(found, message)
  -- Within an operation `usage` would say that the world was not touched.
  local state = task.locals().scope
  if refused and not (state and state.operation) then err.kind = "usage" end
end

---The message handler of kiln's protected calls: makes any error value a kiln.Error that has the
---traceback, and the recipe's line.
---@param value any
---@return kiln.Error
function trace.handler(value)
  local err = error_.from(value)
  err.traceback = err.traceback or debug.traceback("", 2)
  locate(err)
  return err
end

---The message handler of a recipe's own `pcall`: an error of kiln's gets the recipe's line, any
---other value passes as it is.
---@param value any
---@return any
function trace.recipes_handler(value)
  if task.spent() then return value end -- it is being ended
  if type(value) == "string" then
    local found, called = trace.find()
    local text = of_call(value, called)
    return found and text ~= value and ("%s: %s"):format(found, text) or value
  end
  if getmetatable(value) == "kiln.Error" then locate(value) end
  return value
end

return trace
