---Pinned npm packages for specs, installed once into build/npm.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"

local npm = {}

local root = assert(fs.cwd()) .. "/build/npm"

local function is_installed(name, version)
  local text = fs.read(("%s/node_modules/%s/package.json"):format(root, name))
  return text and json.decode(text).version == version
end

---Installs a package where it is not there yet.
---@async
---@param name string "@stoplight/prism-cli"
---@param version string
---@return string? folder with node_modules in it
---@return string? reason why not
function npm.install(name, version)
  if is_installed(name, version) then return root end
  assert(fs.mkdir(root, { parents = true }))
  local ended, err = proc.run {
    argv = { "npm", "install", "--no-audit", "--no-fund", "--prefix", root,
      name .. "@" .. version },
    timeout = 600,
  }
  if not ended then return nil, "npm cannot be run: " .. err.message end
  if ended.code ~= 0 then
    return nil, ("npm cannot install %s: %s"):format(name, ended.err:sub(-300))
  end
  return root
end

return npm
