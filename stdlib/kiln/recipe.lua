---Recipes: Lua files that return a table of entries; loads them and checks their arguments.
local fs = require "rt.fs"
local task = require "rt.task"
local error_ = require "kiln.error"
local sandbox = require "kiln.sandbox"
local scope = require "kiln.scope"
local trace = require "kiln.trace"

local recipe = {}

---Ends a recipe that computes for ever while it loads, at the first signal.
local stopped = error_.new { kind = "stopped", message = "stopped while the recipe was loading" }

---@class kiln.Recipe
---@field name string the service's name, from the module or the file's name
---@field file string as the user named it
---@field dir string where it lies; paths in it start there
---@field module table what the file returned
---@field environment kiln.Environment with the text of every file that it loaded
---@field entries kiln.Entry[] what can be run, in the file's order
---@field args table<string, kiln.ArgSpec>

---@class kiln.Entry
---@field name string
---@field doc? string the comment's first sentence

---@class kiln.ArgSpec
---@field doc string
---@field required? boolean
---@field default? string|number|boolean
---@field choices? string[]

---Lists the functions of the module in the order of the text, with the comment above each.
local function list_entries(module, text)
  local entries, seen, doc = {}, {}, nil
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local comment = line:match("^%-%-%-%s*([^@].*)$")
    local name = line:match("^function%s+[%w_]+[.:]([%w_]+)%s*%(")
    if comment then
      doc = doc or comment
    elseif name then
      if type(module[name]) == "function" and not seen[name] then
        seen[name] = true
        entries[#entries + 1] = { name = name, doc = doc }
      end
      doc = nil
    elseif not line:match("^%-%-") then
      doc = nil
    end
  end
  local rest = {}
  for name, value in pairs(module) do
    if type(value) == "function" and type(name) == "string" and not seen[name] then
      rest[#rest + 1] = name
    end
  end
  table.sort(rest)
  for _, name in ipairs(rest) do entries[#entries + 1] = { name = name } end
  return entries
end

local function check_arg_specs(module, file)
  local args = {}
  for name, spec in pairs(module.args or {}) do
    if type(name) ~= "string" or type(spec) ~= "table" or type(spec[1]) ~= "string" then
      error_.raise {
        kind = "usage",
        message = ('%s: args must look like { version = { "what it is", required = true } }')
          :format(file),
      }
    end
    args[name] = {
      doc = spec[1], required = spec.required or false, default = spec.default,
      choices = spec.choices,
    }
  end
  return args
end

---Runs the recipe's text. It is called by gsub, where nothing can wait: what would touch the world
---without being an operation raises there.
local function run_chunk(chunk, dir, ...)
  local state, words = scope.state(), table.pack(...)
  local outer = state.loading
  state.loading = { dir = dir }
  local ok, result
  string.gsub("x", "x", function()
    ok, result = xpcall(chunk, function(err)
      err = error_.from(err)
      if err.message:find("cannot wait here: ", 1, true) then
        err.kind = "usage"
        err.message = "a recipe cannot wait for anything while it loads; move this into a function "
          .. "that is run, such as deploy"
      end
      return trace.handler(err)
    end, table.unpack(words, 1, words.n))
  end)
  state.loading = outer
  return ok, result
end

---Loads a recipe. Raises `usage` when the file is missing, has a syntax error, fails while loading,
---or does not return a table.
---@param file string
---@param sources? table<string, string> stored texts to load instead of the files
---@param dir? string where its paths start (the file's folder)
---@return kiln.Recipe
function recipe.load(file, sources, dir)
  dir = dir or file:match("^(.*)/[^/]*$") or "."
  local base = file:match("([^/]+)$")
  local loading = true
  local function read_source(path)
    -- A module that an entry loads while it runs may not have been loaded before the run stopped.
    if sources and (loading or sources[path]) then return sources[path] end
    return (fs.read(dir .. "/" .. path))
  end
  local function show(path)
    return dir == "." and path or dir .. "/" .. path
  end

  local text = read_source(base)
  if not text then
    error_.raise { kind = "usage", message = ("no recipe at %s"):format(file) }
  end
  local environment = sandbox.new { read_source = read_source, show = show }
  environment.sources[base] = text
  local chunk = environment:compile(text, base, show(base))
  task.current():stop_with(stopped)
  local ok, module = run_chunk(chunk, dir, (base:gsub("%.lua$", "")), show(base))
  task.current():stop_with(nil)
  if not ok and error_.is(module, "stopped") then error(module, 0) end
  if not ok then
    module.message = module.kind == "usage" and module.message
      or ("%s failed while loading: %s"):format(file, module.message)
    module.kind = "usage"
    error(module, 0)
  end
  loading = false
  if type(module) ~= "table" then
    error_.raise {
      kind = "usage",
      message = ("%s returned %s: a recipe returns a table of functions (is its last line "
        .. "`return app`?)"):format(file, module == nil and "nothing" or "a " .. type(module)),
    }
  end
  return {
    name = type(module.name) == "string" and module.name or (base:gsub("%.lua$", "")),
    file = file, dir = dir, module = module, environment = environment,
    entries = list_entries(module, text), args = check_arg_specs(module, file),
  }
end

---Finds the entry to run: the named one, else `deploy`, else the only one. Raises `usage`.
---@param loaded kiln.Recipe
---@param name? string
---@return string name
function recipe.entry(loaded, name)
  local names = {}
  for index, entry in ipairs(loaded.entries) do names[index] = entry.name end
  local wanted = name or (type(loaded.module.deploy) == "function" and "deploy") or
    (#names == 1 and names[1])
  if wanted and type(loaded.module[wanted]) == "function" then return wanted end
  error_.raise {
    kind = "usage",
    message = (name and "%s has no entry '" .. name .. "'; it has: %s"
      or "%s has several entries, name one: %s"):format(loaded.file,
      #names > 0 and table.concat(names, ", ") or "none"),
  }
end

local function convert(spec, name, value)
  local like = type(spec.default)
  if like == "number" and type(value) == "string" then
    local number = tonumber(value)
    if not number then
      error_.raise { kind = "usage",
        message = ("argument '%s' must be a number, not '%s'"):format(name, value) }
    end
    return math.tointeger(number) or number
  end
  if like == "boolean" and type(value) == "string" then
    if value == "true" or value == "yes" or value == "1" then return true end
    if value == "false" or value == "no" or value == "0" then return false end
    error_.raise { kind = "usage",
      message = ("argument '%s' must be true or false, not '%s'"):format(name, value) }
  end
  return value
end

---Checks arguments against what the recipe declares and fills in defaults. Raises `usage`.
---@param loaded kiln.Recipe
---@param given table<string, any>
---@return table<string, any>
function recipe.check_args(loaded, given)
  local values, missing, unknown, known = {}, {}, {}, {}
  for name, spec in pairs(loaded.args) do
    known[#known + 1] = name
    local value = given[name]
    if value == nil then value = spec.default else value = convert(spec, name, value) end
    if value == nil and spec.required then missing[#missing + 1] = name end
    if value ~= nil and spec.choices then
      local found = false
      for _, choice in ipairs(spec.choices) do found = found or choice == value end
      if not found then
        error_.raise { kind = "usage", message = ("argument '%s' is '%s'; it can be: %s")
          :format(name, tostring(value), table.concat(spec.choices, ", ")) }
      end
    end
    values[name] = value
  end
  for name in pairs(given) do
    if not loaded.args[name] then unknown[#unknown + 1] = name end
  end
  table.sort(missing)
  table.sort(unknown)
  table.sort(known)
  if #unknown > 0 then
    error_.raise { kind = "usage", message = ("%s takes no argument '%s'; it takes: %s"):format(
      loaded.file, unknown[1], #known > 0 and table.concat(known, ", ") or "none") }
  end
  if #missing > 0 then
    error_.raise { kind = "usage", message = ("%s needs --%s (%s)"):format(
      loaded.file, missing[1], loaded.args[missing[1]].doc) }
  end
  return values
end

return recipe
