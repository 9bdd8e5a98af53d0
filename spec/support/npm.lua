---Pinned npm packages for specs, each installed once into a folder of its own below build/npm.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"

local npm = {}

local root = assert(fs.cwd()) .. "/build/npm"

---Installs a package where it is not there yet.
---@async
---@param name string "@stoplight/prism-cli"
---@param version string
---@param overrides? table<string, string> versions of packages that it needs
---@return string? folder with node_modules in it
---@return string? reason why not
function npm.install(name, version, overrides)
  local folder = root .. "/" .. name:gsub("[^%w%-]", "_")
  local wanted = json.encode {
    private = true, type = "module", dependencies = { [name] = version },
    overrides = overrides or {},
  }
  if fs.read(folder .. "/installed.json") == wanted then return folder end
  assert(fs.mkdir(folder, { parents = true }))
  assert(fs.write(folder .. "/package.json", wanted))
  local ended, err = proc.run {
    argv = { "npm", "install", "--no-audit", "--no-fund" }, cwd = folder, timeout = 600,
  }
  if not ended then return nil, "npm cannot be run: " .. err.message end
  if ended.code ~= 0 then
    return nil, ("npm cannot install %s: %s"):format(name, ended.err:sub(-300))
  end
  assert(fs.write(folder .. "/installed.json", wanted))
  return folder
end

return npm
