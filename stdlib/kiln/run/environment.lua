---Environments: the names of their services, and which ones a project has.
local error_ = require "kiln.error"

local environment = {}

---The environment of a run without -e.
environment.default = "default"

---Returns the name of a service in an environment: "app" in the default one, "app-staging" in
---staging. A name that ends with the environment already stays as it is.
---@param service string
---@param env string
---@return string
function environment.name(service, env)
  if env == environment.default or service:sub(-#env - 1) == "-" .. env then return service end
  return service .. "-" .. env
end

---Returns the name of a service without its environment: what its images are called.
---@param name string as `environment.name` returned it, or without the environment already
---@param env string
---@return string
function environment.base(name, env)
  local ending = "-" .. env
  if env == environment.default or name:sub(-#ending) ~= ending then return name end
  return name:sub(1, -#ending - 1)
end

---Returns how many letters must change to make one word from another (Levenshtein).
local function distance(a, b)
  local row = {}
  for column = 0, #b do row[column] = column end
  for line = 1, #a do
    local diagonal = row[0]
    row[0] = line
    for column = 1, #b do
      local above = row[column]
      local changed = a:byte(line) == b:byte(column) and 0 or 1
      row[column] = math.min(above + 1, row[column - 1] + 1, diagonal + changed)
      diagonal = above
    end
  end
  return row[#b]
end

---Returns the name that a mistyped one most probably means.
---@param wanted string
---@param names string[]
---@return string? name nil when none is near
function environment.nearest(wanted, names)
  local best, least = nil, math.max(2, #wanted // 3) + 1
  for _, name in ipairs(names) do
    local away = distance(wanted, name)
    if away < least then best, least = name, away end
  end
  return best
end

local function contains(list, wanted)
  for _, one in ipairs(list) do
    if one == wanted then return true end
  end
  return false
end

local function meant(wanted, names)
  local near = environment.nearest(wanted, names)
  return near and ("; did you mean '%s'?"):format(near) or ""
end

---Returns the environments that a recipe declares; nil when it declares none. Raises `usage` when
---they are no list of names.
---@param module table the recipe's
---@param file string for messages
---@return string[]?
function environment.declared(module, file)
  local list = module.environments
  if list == nil then return nil end
  local good = type(list) == "table"
  for _, name in ipairs(good and list or {}) do good = good and type(name) == "string" end
  if good then return list end
  error_.raise { kind = "usage",
    message = ('%s: environments must look like { "production", "staging" }'):format(file) }
end

---Checks the environment that a run asks for: one that the recipe declares; where it declares
---none, one that the project has had before, or a new one that the user confirms.
---Raises `usage` for any other, with the nearest known name.
---@param want { env: string, file: string, declared: string[]?, known: string[],
---  confirm: (fun(question: string): boolean?)? } `known`: those that the state file has;
---  `confirm` asks the user, nil where nobody can be asked
function environment.check(want)
  local env, declared = want.env, want.declared
  if env == environment.default then return end
  if declared then
    if contains(declared, env) then return end
    error_.raise { kind = "usage", message = ("%s has no environment '%s'; it declares: %s%s")
      :format(want.file, env, table.concat(declared, ", "), meant(env, declared)) }
  end
  if contains(want.known, env) then return end
  if not env:find("^%l[%l%d-]*$") or #env > 32 or env:sub(-1) == "-" then
    error_.raise { kind = "usage", message = ("'%s' cannot be an environment's name, which becomes "
      .. "a part of machines' names: use lower-case letters, digits and hyphens, at most 32")
      :format(env) }
  end
  local names = table.concat(want.known, ", ")
  if want.confirm and want.confirm(("'%s' is a new environment; this project has: %s%s. Make it?")
    :format(env, names, meant(env, want.known):gsub("%?$", ""))) then return end
  error_.raise { kind = "usage", message = ("'%s' is a new environment; this project has: %s%s If "
    .. "it is meant, confirm it once with --yes, or declare it in the recipe: environments = "
    .. "{ \"%s\" }"):format(env, names, (meant(env, want.known) .. "."):gsub("%?%.$", "?"), env) }
end

return environment
