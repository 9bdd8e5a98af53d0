---Every run can be ended: an error of each kind at each operation of a scenario, before its first
---request. Whatever is not over then is ended by an abort, with nothing left, and by a resume.
local cases = require "spec.matrix.cases"
local inject = require "spec.matrix.inject"

local ended = {}

---The scenarios: the examples, and one that fails by itself.
ended.scenarios = { "example", "broken", "retire", "database", "several" }

---Lists the cases of a scenario.
---@param known { operations: { key: string, name: string }[] }
---@return { fault: spec.Injection, name: string, how: string, on_error: string }[]
function ended.of(known)
  local list = {}
  for _, operation in ipairs(known.operations) do
    for _, place in ipairs(inject.places) do
      for _, fields in ipairs(inject.errors) do
        for _, how in ipairs { "abort", "resume" } do
          list[#list + 1] = {
            name = operation.name, how = how, on_error = #list % 3 == 2 and "keep" or "cleanup",
            fault = { key = operation.key, place = place, error = fields },
          }
        end
      end
    end
  end
  return list
end

local function describe(case)
  return ("%s at %s of %s %s, %s, %s"):format(case.fault.error.kind, case.fault.place,
    case.fault.key, case.name, case.how, case.on_error)
end

---Tries one case and says what does not hold.
local function try(name, known, number, case, tally)
  local ok, problems, status = xpcall(cases.ended, debug.traceback, name, known, case.fault,
    case.how, case.on_error)
  if not ok then problems, status = { tostring(problems) }, "error" end
  -- An operation that sends nothing does not fail at its first request.
  if not case.fault.reached and case.fault.place == "request" then problems = {} end
  tally[status] = (tally[status] or 0) + 1
  tally.all = tally.all + 1
  if #problems == 0 then return true end
  tally.bad = tally.bad + 1
  print(("FAILED ended %s %d: %s"):format(name, number, describe(case)))
  for _, problem in ipairs(problems) do print("      " .. problem) end
  return false
end

---Runs them all, or one.
---@param names string[] scenarios
---@param stride integer 1: every case
---@param number? integer the only case of the only scenario
---@return boolean holds
function ended.run(names, stride, number)
  local tally = { all = 0, bad = 0 }
  for index, name in ipairs(names) do
    local known = cases.count(name)
    local list = ended.of(known)
    print(("%s: %d operations, %d cases"):format(name, #known.operations, #list))
    if number then
      assert(list[number], ("%s has no case %d"):format(name, number))
      local held = try(name, known, number, list[number], tally)
      print((held and "holds: " or "does not hold: ") .. describe(list[number]))
    else
      for at = stride > 1 and index * 7 or 1, #list, stride do
        try(name, known, at, list[at], tally)
      end
    end
  end
  local parts = {}
  for status, count in pairs(tally) do
    if status ~= "all" and status ~= "bad" then parts[#parts + 1] = count .. " " .. status end
  end
  table.sort(parts)
  print(("runs that fail before a request: %d cases: %s; %d failed"):format(tally.all,
    table.concat(parts, ", "), tally.bad))
  return tally.bad == 0
end

return ended
