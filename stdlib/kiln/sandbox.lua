---The global environment of recipes: nothing in it can differ between a run and its replay.
---
---No files, processes, bytecode or debug library; `pairs` goes in a fixed order; the time and the
---environment come from the journal; random numbers follow from the run and the task.
local crypto = require "rt.crypto"
local host = require "rt.host"
local task = require "rt.task"
local error_ = require "kiln.error"
local faces = require "kiln.engine.faces"
local uses = require "kiln.image.uses"
local op = require "kiln.op"
local scope = require "kiln.scope"
local trace = require "kiln.trace"

local sandbox = {}

---The main functions of kiln's own recipes.
local own_recipes = setmetatable({}, { __mode = "k" })

local rank = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local ra, rb = rank[type(a)] or 4, rank[type(b)] or 4
  if ra ~= rb then return ra < rb end
  if ra == 1 or ra == 2 then return a < b end
  if ra == 3 then return a and not b end
  return false
end

---Gives the keys of a table in a fixed order: numbers, strings, booleans, then the rest.
local function ordered_keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys, before)
  return keys
end

local function fixed_pairs(t)
  local meta = getmetatable(t)
  if type(meta) == "table" and meta.__pairs then return meta.__pairs(t) end
  local keys, at = ordered_keys(t), 0
  return function()
    repeat
      at = at + 1
      local key = keys[at]
      if key == nil then return nil end
      local value = t[key]
      if value ~= nil then return key, value end
    until false
  end, t, nil
end

local function fixed_next(t, key)
  local keys = ordered_keys(t)
  if key == nil then return keys[1], t[keys[1]] end
  for index, at in ipairs(keys) do
    if rawequal(at, key) then return keys[index + 1], t[keys[index + 1]] end
  end
  error("invalid key to 'next'", 2)
end

---Reads the clock as an operation, so a resumed run sees the time that the first one saw.
local function journaled_time()
  if scope.state().loading then return os.time() end -- there is no journal yet
  return op.call {
    name = "time", class = "read", quiet = true, perform = function() return os.time() end,
  }
end

local function sandboxed_os()
  return {
    time = function(parts) return parts and os.time(parts) or journaled_time() end,
    date = function(format, time) return os.date(format, time or journaled_time()) end,
    difftime = os.difftime,
    getenv = function(name)
      local function look() return os.getenv(name) end
      local value
      if scope.state().loading then
        value = look()
      else
        value = op.call {
          name = "environment " .. name, class = "read", args = { name = name }, quiet = true,
          perform = look,
        }
      end
      uses.variable(name, value)
      return value
    end,
  }
end

---Random numbers from the run's identity and the task's path (splitmix64, Steele et al. 2014).
local function sandboxed_random()
  local function draw(state)
    if not state.random then
      local run = state.run and state.run.id or "no run"
      state.random = math.tointeger(tonumber(crypto.sha256(run .. state.path):sub(1, 15), 16))
    end
    state.random = state.random + 0x9E3779B97F4A7C15
    local z = state.random
    z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ~ (z >> 27)) * 0x94D049BB133111EB
    return z ~ (z >> 31)
  end
  return function(low, high)
    local bits = draw(scope.state())
    if low == nil then return (bits >> 11) * 2.0 ^ -53 end
    if high == nil then low, high = 1, low end
    if low > high then error("bad arguments to 'random' (interval is empty)", 2) end
    return low + math.tointeger((bits >> 1) % (high - low + 1))
  end
end

---Raises what a recipe raises: an error of its own cannot end the run as only kiln does.
local function sandboxed_error(value, level)
  level = level or 1
  if level > 0 then level = level + 1 end
  error(error_.foreign(value), level)
end

local function sandboxed_assert(...)
  local ok, value = ...
  if ok or select("#", ...) < 2 or type(value) ~= "table" and type(value) ~= "string" then
    return assert(...)
  end
  error(error_.foreign(value), 0)
end

---A handler is not called for a stop: it would run where nothing can end it.
local function sandboxed_xpcall(body, handler, ...)
  return xpcall(body, type(handler) == "function" and function(err)
    if task.spent() then return err end
    return handler(err)
  end or handler, ...)
end

---A recipe that catches an error of kiln's can print which of its lines led to it.
local function sandboxed_pcall(...)
  if select("#", ...) == 0 then error("bad argument #1 to 'pcall' (value expected)", 2) end
  local body = ...
  return xpcall(body, trace.recipes_handler, select(2, ...))
end

---Finalizers run at moments that no replay repeats, and nothing could end one that does not end.
local function sandboxed_setmetatable(value, meta)
  if type(meta) == "table" and rawget(meta, "__gc") ~= nil then
    error("a recipe's table cannot have __gc: use `local x <close>` and __close", 2)
  end
  return setmetatable(value, meta)
end

local function copy(library, without)
  local out = {}
  for key, value in next, library do
    if not without[key] then out[key] = value end
  end
  return out
end

---The environment of a recipe, and what is in it.
---@class kiln.Environment
---@field env table the globals
---@field standard table<string, any> the globals as they were before the recipe ran
---@field faces table<any, string> kiln's modules as `require` returned them, and their names
---@field sources table<string, string> texts of the recipe's files, by path below its folder
---@field modules table<string, any> what these files returned, without the recipe itself
---@field chunks table<string, string> the file of each source that `debug.getinfo` may name
---@field read_source fun(path: string): string?
---@field on_source? fun(path: string, text: string) called for a file that is loaded
---@field private show fun(path: string): string
local Environment = {}
Environment.__index = Environment

---Compiles text under the environment. Raises `usage` with file and line for a syntax error.
---@param text string
---@param path string below the recipe's folder
---@param shown string the path that messages show
---@return function
function Environment:compile(text, path, shown)
  local chunk, err = load(text, "@" .. shown, "t", self.env)
  if not chunk then error_.raise { kind = "usage", message = err, syntax = true } end
  self.chunks["@" .. shown] = path
  if text == host.source("recipes/" .. path:match("[^/]+$")) then
    own_recipes[chunk] = true
  else
    trace.know_file("@" .. shown, text)
  end
  return chunk
end

---The recipe's `load`: text only, under its own globals or those that it names.
local function sandboxed_load(self)
  return function(text, name, _, own)
    if type(text) ~= "string" then return nil, "load takes text" end
    local chunk, err = load(text, name or "=(load)", "t", own or self.env)
    if chunk then self.chunks[debug.getinfo(chunk, "S").source] = "(load)" end
    return chunk, err
  end
end

---The recipe's `require`: kiln's modules, and files beside the recipe.
local function sandboxed_require(self)
  local loaded, show, read_source = {}, self.show, self.read_source
  local used = {} ---@type table<string, kiln.image.Used[]> by each module of the recipe's
  local function load_text(name, text, path, shown)
    if loaded[name] == true then
      error_.raise { kind = "usage", message = ("modules require each other in a circle: %s")
        :format(name) }
    end
    loaded[name] = true
    local value = self:compile(text, path, shown)(name, shown)
    loaded[name] = value == nil and {} or value
    return loaded[name]
  end
  return function(name)
    if type(name) ~= "string" then error("require: a module's name is a string", 2) end
    if loaded[name] ~= nil and loaded[name] ~= true then
      if used[name] then uses.again(used[name]) end
      return loaded[name]
    end
    if name:find("^kiln%.") or name:find("^rt%.") or name:find("^providers%.") then
      local own = own_recipes[debug.getinfo(2, "f").func]
      local module = faces.require(name, own)
      self.faces[module] = name
      if not own then loaded[name] = module end
      return module
    end
    local path = name:gsub("%.", "/") .. ".lua"
    local text = read_source(path)
    if text then
      self.sources[path] = text
      if self.on_source then self.on_source(path, text) end
      used[name] = uses.gather(function()
        uses.module(path, text)
        self.modules[path] = load_text(name, text, path, show(path))
      end)
      return loaded[name]
    end
    text = name:find("^recipes%.") and host.source(path)
    if text then return load_text(name, text, path, path) end
    error_.raise {
      kind = "usage",
      message = ("module '%s' not found: no %s beside the recipe, and kiln has none of that name")
        :format(name, show(path)),
    }
  end
end

---Makes an environment.
---@param opts { read_source: (fun(path: string): string?), show: (fun(path: string): string) }
---  how files beside the recipe are read, and how their paths are shown
---@return kiln.Environment
function sandbox.new(opts)
  local env = {
    _VERSION = _VERSION,
    assert = sandboxed_assert, error = sandboxed_error, ipairs = ipairs,
    pcall = sandboxed_pcall, xpcall = sandboxed_xpcall,
    rawequal = rawequal, rawget = rawget, rawlen = rawlen, rawset = rawset, select = select,
    setmetatable = sandboxed_setmetatable, tonumber = tonumber, tostring = tostring, type = type,
    next = fixed_next, pairs = fixed_pairs,
    string = copy(string, { dump = true }),
    table = copy(table, {}),
    math = copy(math, { random = true, randomseed = true }),
    utf8 = copy(utf8, {}),
    coroutine = copy(coroutine, {}),
    os = sandboxed_os(),
  }
  env._G = env
  env.math.random = sandboxed_random()
  env.getmetatable = function(value)
    if type(value) == "string" then return nil end -- kiln's own string library hangs there
    return getmetatable(value)
  end
  env.print = function(...)
    local parts = table.pack(...)
    for i = 1, parts.n do parts[i] = tostring(parts[i]) end
    local text = table.concat(parts, "\t")
    local run = scope.state().run
    if run then run:note(text) else io.stdout:write(text, "\n") end
  end
  local self = setmetatable({
    env = env, standard = {}, faces = {}, sources = {}, chunks = {}, modules = {},
    show = opts.show, read_source = opts.read_source,
  }, Environment)
  env.load = sandboxed_load(self)
  env.require = sandboxed_require(self)
  for name, value in next, env do self.standard[name] = value end
  self.standard._G = nil
  return self
end

return sandbox
