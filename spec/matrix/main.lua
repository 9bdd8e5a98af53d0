---The kill matrix: a run on the simulator, killed at each of its points, then resumed and, apart
---from that, aborted. In virtual time.
---
---  kiln lua spec/matrix/main.lua all            every point; `all swap` of one scenario
---  kiln lua spec/matrix/main.lua short          every 53rd
---  kiln lua spec/matrix/main.lua swap 17 abort  one case; `swap 17 resume 3` dies again at 3
---  kiln lua spec/matrix/main.lua nested 50      recipes of nested blocks, made from 1 to 50
---  kiln lua spec/matrix/main.lua faults         a fault of every kind at every request instead
---  kiln lua spec/matrix/main.lua faults swap 17 one of these; `faults short` every 149th
---  kiln lua spec/matrix/main.lua ended          an error at every operation instead, before its
---                                               first request; `ended example 17`, `ended short`
local timer = require "rt.timer"
local death = require "spec.matrix.death"

timer.virtual(1780000000)
death.watch_journals() -- before kiln.store takes the journal's functions

require "spec.matrix.guests" -- before kiln.machine takes kiln.ssh
local cases = require "spec.matrix.cases"
local sweep = require "spec.matrix.sweep"

local failed, count = 0, { resume = 0, abort = 0, twice = 0 }

local function try(name, known, at, how, second)
  local ok, problems = xpcall(cases.run, debug.traceback, name, known, at, how, second)
  if not ok then problems = { tostring(problems) } end
  count[second and "twice" or how] = count[second and "twice" or how] + 1
  if #problems == 0 then return end
  failed = failed + 1
  print(("FAILED %s %d %s%s: killed %s"):format(name, at, how, second and " " .. second or "",
    known.points[at]))
  for _, problem in ipairs(problems) do print("      " .. problem) end
end

local word = arg[1] or "short"
local names = cases.scenarios[arg[2]] and { arg[2] }
  or { "deploy", "swap", "third", "failing", "choices" }
if word == "faults" then
  local holds = sweep.run(require "spec.matrix.faults", names,
    arg[2] == "short" and 149 or 1, tonumber(arg[3]))
  timer.real()
  os.exit(holds and 0 or 1)
end
if word == "ended" then
  local ended = require "spec.matrix.ended"
  local holds = sweep.run(ended, cases.scenarios[arg[2]] and names or ended.scenarios,
    arg[2] == "short" and tonumber(arg[3]) or 1, arg[2] ~= "short" and tonumber(arg[3]) or nil)
  timer.real()
  os.exit(holds and 0 or 1)
end

---Kills a recipe of nested blocks at several points, spread over the run by its number.
local function nest(seed)
  local name = "nested " .. seed
  cases.scenarios[name] = { before = {}, version = tostring(seed), ends = "done",
    recipe = "nested.lua" }
  local known = cases.count(name)
  for nth = 1, 3 do
    local at = (seed * 31 + nth * 997) % #known.points + 1
    try(name, known, at, "resume")
    try(name, known, at, "abort")
    try(name, known, at, nth % 2 == 0 and "resume" or "abort", 1 + (seed + nth * 5) % 12)
  end
end

local single = cases.scenarios[word] and tonumber(arg[2])
if word == "nested" then
  for seed = tonumber(arg[3]) or 1, tonumber(arg[2]) or 8 do nest(seed) end
elseif single then
  local known = cases.count(word)
  try(word, known, single, arg[3] or "resume", tonumber(arg[4]))
  print(failed == 0 and "holds: killed " .. known.points[single] or "does not hold")
else
  local stride = word == "all" and 1 or 53
  for index, name in ipairs(names) do
    local known = cases.count(name)
    print(("%s: %d points"):format(name, #known.points))
    if word == "points" then
      for at, what in ipairs(known.points) do print(at, what) end
    else
      for at = 1 + (stride > 1 and index or 0), #known.points, stride do
        try(name, known, at, "resume")
        try(name, known, at, "abort")
        local again = 1 + at % 7 -- and every 7th point of what is left of the run, in `all`
        for second = again, stride == 1 and 40 or again, 7 do
          try(name, known, at, "resume", second)
        end
      end
    end
  end
end
timer.real()
print(("kill matrix: %d resumed, %d aborted, %d killed twice; %d failed"):format(count.resume,
  count.abort, count.twice, failed))
os.exit(failed == 0 and 0 or 1)
