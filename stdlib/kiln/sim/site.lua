---The folder in which a simulator's local machines live: its own, gone when the simulator ends.
---What a killed one left is removed by the next.
local fs = require "rt.fs"
local proc = require "rt.proc"
local rt_machine = require "rt.machine"
local error_ = require "kiln.error"
local provider = require "kiln.provider"

local site = {}

local function driver_of(dir, archives)
  return provider.driver("local", { dir = dir, archives = archives })
end

---Removes all that a site has: machines, addresses, images.
---@async
---@param driver table
---@param opts? { bases: boolean? } base images too (false)
function site.clear(driver, opts)
  for _, row in ipairs(driver:machines()) do driver:destroy_machine(row.id) end
  for _, row in ipairs(driver:addresses()) do driver:destroy_address(row.id) end
  local images = driver:images()
  table.sort(images, function(a, b) return (a.created or 0) > (b.created or 0) end)
  for _, row in ipairs(images) do
    if not row.data.base or (opts and opts.bases) then driver:destroy_image(row.id) end
  end
end

---Removes a site and its folder.
---@async
---@param driver table
function site.remove(driver)
  site.clear(driver, { bases = true })
  error_.check(rt_machine.network_down { dir = driver.site.dir })
  local done, err = fs.remove(driver.site.dir, { recursive = true })
  if not done and not error_.is(err, "not_found") then error_.check(nil, err) end
end

local function sweep(start, archives)
  for _, dir in ipairs(fs.glob(start .. "*") or {}) do
    local pid, since = dir:match("%-(%d+)%-(%d+)$")
    if pid and not proc.alive(math.tointeger(tonumber(pid)), math.tointeger(tonumber(since))) then
      site.remove(driver_of(dir, archives))
    end
  end
end

---Opens the site of this process, beside the user's own; base images come from that one's archives.
---@async
---@return table driver of the local cloud
function site.open()
  local own = provider.driver("local")
  local start = own.site.dir .. "-sim-"
  sweep(start, own.site.archives)
  local info = proc.info()
  return driver_of(("%s%d-%d"):format(start, info.pid, info.start_time), own.site.archives)
end

return site
