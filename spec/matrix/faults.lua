---The fault matrix: each kind of fault that the simulator has, at each request of a scenario.
local sim = require "providers.digitalocean.sim"
local cases = require "spec.matrix.cases"

local faults = {}

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
function faults.of(known)
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
  return list
end

local function describe(fault)
  return ("%s at %s %s, %d."):format(fault.kind, fault.method, fault.path, fault.nth)
end

---Tries one case and says what does not hold, with the command that shows it again.
local function try(name, known, list, number, tally)
  local fault = list[number]
  local ok, problems, status = xpcall(cases.fault, debug.traceback, name, known, fault)
  if not ok then problems, status = { tostring(problems) }, "error" end
  tally[status] = (tally[status] or 0) + 1
  tally.all = tally.all + 1
  if #problems == 0 then return true end
  tally.bad = tally.bad + 1
  print(("FAILED faults %s %d: %s"):format(name, number, describe(fault)))
  for _, problem in ipairs(problems) do print("      " .. problem) end
  return false
end

---Runs the matrix, or one case of it.
---@param names string[] scenarios
---@param stride integer 1: every case
---@param number? integer the only case of the only scenario
---@return boolean holds
function faults.run(names, stride, number)
  local tally = { all = 0, bad = 0 }
  for index, name in ipairs(names) do
    local known = cases.count(name)
    local list = faults.of(known)
    print(("%s: %d requests, %d faults"):format(name, #known.requests, #list))
    if number then
      assert(list[number], ("%s has no fault %d"):format(name, number))
      local held = try(name, known, list, number, tally)
      print((held and "holds: " or "does not hold: ") .. describe(list[number]))
    else
      for at = stride > 1 and index * 5 or 1, #list, stride do try(name, known, list, at, tally) end
    end
  end
  local parts = {}
  for status, count in pairs(tally) do
    if status ~= "all" and status ~= "bad" then parts[#parts + 1] = count .. " " .. status end
  end
  table.sort(parts)
  print(("fault matrix: %d cases: %s; %d failed"):format(tally.all, table.concat(parts, ", "),
    tally.bad))
  return tally.bad == 0
end

return faults
