---Environments: the names of their services, and which ones a project has.
local error_ = require "kiln.error"
local options = require "kiln.options"

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

local function contains(list, wanted)
  for _, one in ipairs(list) do
    if one == wanted then return true end
  end
  return false
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
      :format(want.file, env, table.concat(declared, ", "), options.meant(env, declared)) }
  end
  if contains(want.known, env) then return end
  if not env:find("^%l[%l%d-]*$") or #env > 32 or env:sub(-1) == "-" then
    error_.raise { kind = "usage", message = ("'%s' cannot be an environment's name, which becomes "
      .. "a part of machines' names: use lower-case letters, digits and hyphens, at most 32")
      :format(env) }
  end
  local names, meant = table.concat(want.known, ", "), options.meant(env, want.known)
  if want.confirm and want.confirm(("'%s' is a new environment; this project has: %s%s. Make it?")
    :format(env, names, meant:gsub("%?$", ""))) then return end
  error_.raise { kind = "usage", message = ("'%s' is a new environment; this project has: %s%s If "
    .. "it is meant, confirm it once with --yes, or declare it in the recipe: environments = "
    .. "{ \"%s\" }"):format(env, names, (meant .. "."):gsub("%?%.$", "?"), env) }
end

return environment
