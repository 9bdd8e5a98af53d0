---Every run can be ended: an error of each kind at each operation of a scenario, before its first
---request. Whatever is not over then is ended by an abort, with nothing left, and by a resume.
local cases = require "spec.matrix.cases"
local inject = require "spec.matrix.inject"

local ended = { word = "ended", title = "runs that fail before a request", start = 7 }

---The scenarios: the examples, and one that fails by itself.
ended.scenarios = { "example", "broken", "retire", "database", "several" }

---Lists the cases of a scenario.
---@param known { operations: { key: string, name: string }[] }
---@return { fault: spec.Injection, name: string, how: string, on_error: string }[]
---@return string words how many there are
function ended.list(known)
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
  return list, ("%d operations, %d cases"):format(#known.operations, #list)
end

---Describes a case.
function ended.describe(case)
  return ("%s at %s of %s %s, %s, %s"):format(case.fault.error.kind, case.fault.place,
    case.fault.key, case.name, case.how, case.on_error)
end

---Tries a case.
---@return string[] problems
---@return string status
function ended.try(name, known, case)
  local problems, status = cases.ended(name, known, case.fault, case.how, case.on_error)
  -- An operation that sends nothing does not fail at its first request.
  if not case.fault.reached and case.fault.place == "request" then problems = {} end
  return problems, status
end

return ended
