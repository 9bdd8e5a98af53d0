---The secrets that a recipe declares: looked up before its run makes anything.
---
---  app.secrets = {
---    token = {},                                  -- the environment variable KILN_SECRET_TOKEN
---    hook = { env = "SLACK_HOOK" },
---    password = { file = "secrets/db" },          -- below the recipe's folder, or absolute
---    license = { command = { "pass", "show", "license" }, entries = { "deploy" } },
---  }
local proc = require "rt.proc"
local error_ = require "kiln.error"
local secret = require "kiln.secret"

local secret_declared = {}

---@class kiln.secret.Declared
---@field env? string variable (KILN_SECRET_<NAME>)
---@field file? string
---@field command? string[] the program and its arguments
---@field entries? string[] those that ask for it (all)

local kinds = { env = "string", file = "string", command = "table", entries = "table" }

local function usage(format, ...)
  error_.raise { kind = "usage", message = format:format(...) }
end

local function check(name, from)
  if type(name) ~= "string" or type(from) ~= "table" then
    usage('secrets must look like { password = { env = "DB_PASSWORD" } }')
  end
  local sources = 0
  for key, value in pairs(from) do
    if not kinds[key] then
      usage("secrets.%s: unknown field '%s'; there are env, file, command and entries", name,
        tostring(key))
    end
    if type(value) ~= kinds[key] then
      usage("secrets.%s.%s must be %s", name, key,
        kinds[key] == "table" and "a list of texts" or "text")
    end
    if key ~= "entries" then sources = sources + 1 end
  end
  if sources > 1 then usage("secrets.%s: one of env, file and command", name) end
end

---Takes a secret from where its declaration says. Raises as `secret.from_env` and its like.
---@async
---@param name string
---@param from? kiln.secret.Declared
---@param dir string the recipe's folder
---@return userdata secret
function secret_declared.take(name, from, dir)
  from = from or {}
  if from.file then return secret.from_file(from.file, dir) end
  if from.command then return secret.from_command(from.command, { cwd = dir }) end
  return secret.from_env(from.env or "KILN_SECRET_" .. name:upper())
end

local function asks(from, entry)
  for _, name in ipairs(from.entries or { entry }) do
    if name == entry then return true end
  end
  return false
end

---Makes the environment's KILN_SECRET_* known, before anything is written down.
local function know_environment()
  for name, value in pairs(proc.environ()) do
    if name:find("^KILN_SECRET_") and value ~= "" then secret.remember(value, "env " .. name) end
  end
end

---Looks up every secret that an entry asks for. Raises `usage` with all that are missing, and for a
---declaration that is none.
---@async
---@param declared? table<string, kiln.secret.Declared> the recipe's `secrets`
---@param entry string
---@param dir string the recipe's folder
---@return table<string, userdata> secrets by name
function secret_declared.look_up(declared, entry, dir)
  know_environment()
  if declared == nil then return {} end
  if type(declared) ~= "table" then check(nil, nil) end
  local names, found, missing = {}, {}, {}
  for name, from in pairs(declared) do
    check(name, from)
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    if asks(declared[name], entry) then
      local ok, value = xpcall(secret_declared.take, error_.from, name, declared[name], dir)
      if ok then
        found[name] = value
      elseif error_.halts(value) or error_.is(value, "cancelled") then
        error(value, 0)
      else
        missing[#missing + 1] = ("%s: %s"):format(name, value.message)
      end
    end
  end
  if #missing > 0 then
    usage("%s cannot begin without its secrets:\n  %s", entry, table.concat(missing, "\n  "))
  end
  return found
end

return secret_declared
