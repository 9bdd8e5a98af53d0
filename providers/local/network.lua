---The network of a site as something that can break, and the machines that go down with their host.
local fs = require "rt.fs"
local machine = require "rt.machine"
local error_ = require "kiln.error"
local scope = require "kiln.scope"

local network = {}

local own_site = "/var/lib/kiln" -- root's, where no other is named: the ids are those of all sites

local function is_new(site)
  return fs.stat(site.dir .. "/machines") == nil
end

---Adds the methods to the driver's class.
---@param Driver table
function network.add_methods(Driver)
  ---Looks at each part of the site's network.
  ---@async
  ---@return kiln.DoctorRow[] rows none where there is no network
  function Driver:parts()
    if is_new(self.site) then return {} end
    return error_.check(machine.site { dir = self.site.dir })
  end

  ---Lists what is broken of the site's network.
  ---@async
  ---@return { name: string, message: string, remedy: string? }[]
  function Driver:broken()
    local broken = {}
    for _, row in ipairs(self:parts()) do
      if not row.ok then broken[#broken + 1] = row end
    end
    return broken
  end

  ---Makes what is broken of the site's network again.
  ---@async
  ---@return string? repaired what it was
  function Driver:repair()
    if is_new(self.site) then return nil end
    local repaired = error_.check(machine.repair { dir = self.site.dir }).repaired
    return repaired ~= "" and repaired or nil
  end

  ---Repairs the network, and starts what ran when this host went down, at the addresses of before.
  ---What was switched off stays so.
  ---@async
  ---@return { name: string, problem: kiln.Error?, repaired: boolean? }[] machines; with
  ---  `repaired`, parts of the network
  function Driver:revive()
    local repaired, lost = self:repair(), {}
    for _, row in ipairs(is_new(self.site) and {} or self:machines()) do
      if row.lost then lost[#lost + 1] = row.name end
    end
    local rows = scope.all(lost, function(name)
      local row, problem = machine.start { dir = self.site.dir, name = name }
      return { name = name, problem = not row and error_.from(problem) or nil }
    end)
    if repaired then table.insert(rows, 1, { name = repaired, repaired = true }) end
    return rows
  end

  ---Ends everything in the site and removes it: machines, their network, images, the base.
  ---@async
  ---@param told fun(text: string) called for each thing that is gone
  function Driver:uninstall(told)
    local dir = self.site.dir
    for _, name in ipairs(fs.list(dir .. "/machines") or {}) do -- half made ones too
      error_.check(machine.destroy { dir = dir, name = name })
      told("machine " .. name)
    end
    error_.check(machine.network_down { dir = dir })
    if dir == own_site then error_.check(machine.release_ids { dir = dir }) end
    error_.check(fs.remove(dir, { recursive = true }))
    told("folder " .. dir)
  end
end

return network
