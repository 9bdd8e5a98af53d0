---What a recipe may require of kiln, and what it gets.
---
---It gets a copy of a module's table: what it changes there changes nothing of kiln's. A module
---that reaches the world has a journaled face (`kiln.journaled`). All else is kiln's own.
local host = require "rt.host"
local error_ = require "kiln.error"
local journaled = require "kiln.journaled"
local signature = require "kiln.engine.signature"

local faces = {}

---The modules of recipes. `only` names the functions of one of which the rest is kiln's own;
---`without` those that are.
---@type table<string, { only: string[]?, without: string[]? }>
local public = {
  ["kiln.clock"] = {},
  ["kiln.cloudinit"] = {},
  ["kiln.crypto"] = {},
  ["kiln.error"] = {},
  ["kiln.http"] = {},
  ["kiln.httpd"] = {},
  ["kiln.image"] = {},
  ["kiln.json"] = {},
  ["kiln.load"] = {},
  ["kiln.op"] = {},
  ["kiln.probe"] = {},
  ["kiln.retry"] = {},
  ["kiln.scope"] = { only = { "all", "race", "within" } },
  ["kiln.secret"] = { without = { "knows_any", "preload", "seal", "unseal" } },
  ["kiln.service"] = {},
  ["kiln.sh"] = {},
  ["kiln.sigv4"] = {},
  ["kiln.ssh"] = {},
  ["kiln.yaml"] = {},
}

---What to use in place of what somebody may look for.
local instead = {
  ["kiln.machine"] = "machines are made by run.cloud:machines",
  ["kiln.machine_keys"] = "machines have their keys already; machine:run uses them",
  ["kiln.provider"] = "the cloud is run.cloud",
  ["kiln.run"] = "the run is the first argument of an entry",
  ["kiln.store"] = "a run's record is kept by kiln; see `kiln show` and `kiln status`",
  ["rt.crypto"] = "use kiln.crypto",
  ["rt.fs"] = "files are read and written by machine:upload and machine:download",
  ["rt.http"] = "use kiln.http",
  ["rt.json"] = "use kiln.json",
  ["rt.ssh"] = "use kiln.ssh",
  ["rt.task"] = "use kiln.scope",
  ["rt.timer"] = "use kiln.retry or scope.within",
  ["rt.yaml"] = "use kiln.yaml",
}

---Lists the modules that recipes may require.
---@return string[] names sorted
function faces.names()
  local names = {}
  for name in pairs(public) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function refuse(name)
  local hint = instead[name] or name:find("^providers%.") and instead["kiln.provider"]
  error_.raise {
    kind = "usage",
    message = ("a recipe cannot require '%s'%s; of kiln it may require %s")
      :format(name, hint and ": " .. hint or "", table.concat(faces.names(), ", ")),
  }
end

---Copies a module's functions, those of what it extends first. They check what they are called
---with, by the comments above them in the module, or in `plain` where the face has none.
local function copy(name, module, how, plain)
  if type(module) ~= "table" then return module end
  local out, meta = {}, getmetatable(module)
  local base = type(meta) == "table" and type(meta.__index) == "table" and meta.__index or {}
  for key, value in next, base do out[key] = value end
  for key, value in next, module do out[key] = value end
  for _, key in ipairs(how.without or {}) do out[key] = nil end
  for key, value in next, out do
    if type(value) == "function" then
      out[key] = signature.checked(name .. "." .. key, value, plain[key])
    end
  end
  if not how.only then return out end
  local few = {}
  for _, key in ipairs(how.only) do few[key] = out[key] end
  return few
end

---Errors that a recipe makes cannot steer the run: see `kiln.error.foreign`.
local function face_of_error()
  local face = setmetatable({}, { __index = error_ })
  function face.new(fields) return error_.new(error_.foreign(fields)) end
  function face.raise(fields) error_.raise(error_.foreign(fields)) end
  function face.from(value) return error_.from(error_.foreign(value)) end
  function face.check(value, err, context)
    return error_.check(value, err ~= nil and error_.foreign(err) or nil, context)
  end
  return copy("error", face, { without = { "foreign" } }, error_)
end

---Tells whether a program that embeds kiln, or a developer's KILN_PATH, adds the module.
local function is_added(name)
  local path = "stdlib/" .. name:gsub("%.", "/")
  return name:find("^kiln%.") and (package.preload[name] ~= nil
    or host.is_added(path .. ".lua") or host.is_added(path .. "/init.lua"))
end

---Gives a module of kiln's for a recipe. Raises `usage` for what is not the recipe's.
---@param name string "kiln.http"
---@param own? boolean for a recipe of kiln's own, which may require all of kiln.*
---@return any
function faces.require(name, own)
  own = own and name:find("^kiln%.")
  if not public[name] and not own and not is_added(name) then refuse(name) end
  if name == "kiln.error" then return face_of_error() end
  local module = journaled.face(name) or require(name)
  if not public[name] then return module end
  return copy(name:match("[^.]+$"), module, own and {} or public[name], require(name))
end

return faces
