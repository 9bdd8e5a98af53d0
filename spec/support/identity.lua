---The identity of an image that a recipe in a temporary folder would bake.
local fs = require "rt.fs"
local image = require "kiln.image"
local recipe = require "kiln.recipe"
local Run = require "kiln.run.object"

local identity = {}

local base = { name = "debian-13", id = "debian-13-1", data = {} }

---Writes the files, loads `app.lua`, and hashes what its `spec(run, args)` would bake.
---@param files table<string, string>
---@param opts? { args: table?, run: table? } fields of the run
---@return kiln.image.Identity
function identity.of(files, opts)
  opts = opts or {}
  local dir = assert(fs.temp_dir())
  local _ <close> = setmetatable({}, { __close = function()
    fs.remove(dir, { recursive = true })
  end })
  for name, text in pairs(files) do
    assert(fs.mkdir((dir .. "/" .. name):match "^(.*)/", { parents = true }))
    assert(fs.write(dir .. "/" .. name, text))
  end
  local loaded = recipe.load(dir .. "/app.lua")
  local run = { globals = loaded.environment, dir = dir, args = opts.args or {}, cloud = {},
    env = "default", service = "app", cloud_name = "local", id = "0123abcd" }
  for name, value in pairs(opts.run or {}) do run[name] = value end
  setmetatable(run, Run)
  return image.identity(run, loaded.module.spec(run, run.args), base, {})
end

return identity
