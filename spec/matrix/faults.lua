---The fault matrix: each kind of fault that the simulator has, at each request of a scenario.
local sim = require "providers.digitalocean.sim"
local cases = require "spec.matrix.cases"

local faults = { word = "faults", title = "fault matrix", start = 5 }

---What a request does, for the kinds that only creations or actions can have.
local function does(request, on)
  if on == "any" then return true end
  if on == "change" then return request.method ~= "GET" end
  if request.method ~= "POST" then return false end
  local creates = request.path == "/v2/droplets" or request.path == "/v2/reserved_ips"
  if on == "create" then return creates end
  return creates or request.path:find("/actions$") ~= nil
end

---Lists the cases of a scenario: a fault for each request and each kind that it can have. Ids are
---the same in every run, so a path and a count name a request.
---@param known { requests: { method: string, path: string }[] }
---@return kiln.do.sim.Fault[]
---@return string words how many there are
function faults.list(known)
  local list, counts = {}, {}
  for _, request in ipairs(known.requests) do
    local key = request.method .. " " .. request.path
    counts[key] = (counts[key] or 0) + 1
    for _, entry in ipairs(sim.faults.catalogue) do
      if does(request, entry.on) then
        local fault = { method = request.method, path = request.path, nth = counts[key] }
        for name, value in pairs(entry.example) do fault[name] = value end
        list[#list + 1] = fault
      end
    end
  end
  return list, ("%d requests, %d faults"):format(#known.requests, #list)
end

---Describes a case.
function faults.describe(fault)
  return ("%s at %s %s, %d."):format(fault.kind, fault.method, fault.path, fault.nth)
end

faults.try = cases.fault

return faults
