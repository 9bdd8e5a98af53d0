---The network of a site as something that can break, and the machines that go down with their host.
local fs = require "rt.fs"
local machine = require "rt.machine"
local error_ = require "kiln.error"
local scope = require "kiln.scope"

local network = {}

local function is_new(site)
  return fs.stat(site.dir .. "/machines") == nil
end

---Adds what was seen of each part, as rows for `kiln doctor`.
---@async
---@param site { dir: string }
---@param rows table[]
function network.add_rows(site, rows)
  local parts = error_.check(machine.site { dir = site.dir })
  table.move(parts, 1, #parts, #rows + 1, rows)
end

---Lists what is broken.
---@async
---@param site { dir: string }
---@return { name: string, message: string, remedy: string? }[]
function network.broken(site)
  local broken = {}
  for _, row in ipairs(is_new(site) and {} or
    error_.check(machine.site { dir = site.dir })) do
    if not row.ok then broken[#broken + 1] = row end
  end
  return broken
end

---Makes what is broken again.
---@async
---@param site { dir: string }
---@return string? repaired what it was
function network.repair(site)
  if is_new(site) then return nil end
  local repaired = error_.check(machine.repair { dir = site.dir }).repaired
  return repaired ~= "" and repaired or nil
end

---Repairs the network and starts what went down with the host.
---@async
---@param site { dir: string }
---@param machines fun(): table[] the site's machines
---@return { name: string, problem: kiln.Error?, repaired: boolean? }[]
function network.revive(site, machines)
  local repaired, lost = network.repair(site), {}
  for _, row in ipairs(is_new(site) and {} or machines()) do
    if row.lost then lost[#lost + 1] = row.name end
  end
  local rows = scope.all(lost, function(name)
    local row, problem = machine.start { dir = site.dir, name = name }
    return { name = name, problem = not row and error_.from(problem) or nil }
  end)
  if repaired then table.insert(rows, 1, { name = repaired, repaired = true }) end
  return rows
end

return network
