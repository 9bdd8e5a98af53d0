---Tries each case of a list, or every so many, and counts how the runs ended.
local cases = require "spec.matrix.cases"

local sweep = {}

---@class spec.Sweep
---@field word string of `main.lua`, which shows a case again: "faults"
---@field title string of the last line
---@field start integer where a sample of the first scenario begins; of the second, twice that
---@field list fun(known: table): any[], string the cases of a scenario as `cases.count` knows it,
---  and what there is of them in words
---@field try fun(name: string, known: table, case: any): string[], string what does not hold, and
---  how the run ended
---@field describe fun(case: any): string

---Tries one case and says what does not hold, with the command that shows it again.
local function try(kind, name, known, number, case, tally)
  local ok, problems, status = xpcall(kind.try, debug.traceback, name, known, case)
  if not ok then problems, status = { tostring(problems) }, "error" end
  tally[status] = (tally[status] or 0) + 1
  tally.all = tally.all + 1
  if #problems == 0 then return true end
  tally.bad = tally.bad + 1
  print(("FAILED %s %s %d: %s"):format(kind.word, name, number, kind.describe(case)))
  for _, problem in ipairs(problems) do print("      " .. problem) end
  return false
end

local function print_tally(kind, tally)
  local parts = {}
  for status, count in pairs(tally) do
    if status ~= "all" and status ~= "bad" then parts[#parts + 1] = count .. " " .. status end
  end
  table.sort(parts)
  print(("%s: %d cases: %s; %d failed"):format(kind.title, tally.all, table.concat(parts, ", "),
    tally.bad))
end

---Runs the cases of scenarios, or one of them.
---@param kind spec.Sweep
---@param names string[] scenarios
---@param stride integer 1: every case
---@param number? integer the only case of the only scenario
---@return boolean holds
function sweep.run(kind, names, stride, number)
  local tally = { all = 0, bad = 0 }
  for index, name in ipairs(names) do
    local known = cases.count(name)
    local list, words = kind.list(known)
    print(("%s: %s"):format(name, words))
    if number then
      assert(list[number], ("%s has no case %d"):format(name, number))
      local held = try(kind, name, known, number, list[number], tally)
      print((held and "holds: " or "does not hold: ") .. kind.describe(list[number]))
    else
      for at = stride > 1 and index * kind.start or 1, #list, stride do
        try(kind, name, known, at, list[at], tally)
      end
    end
  end
  print_tally(kind, tally)
  return tally.bad == 0
end

return sweep
