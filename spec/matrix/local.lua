---The kill matrix on local machines: a run is ended by SIGKILL at a point, then resumed or aborted,
---while requests keep coming. Needs root and the base (`kiln doctor`).
---
---  kiln lua spec/matrix/local.lua all           a sample of each kind of point
---  kiln lua spec/matrix/local.lua short         three of them
---  kiln lua spec/matrix/local.lua points        what there is
---  kiln lua spec/matrix/local.lua swap "after the intent of assign address app" abort
---  kiln lua spec/matrix/local.lua swap POINT resume SECOND    dies at SECOND again
local local_site = require "spec.support.local_site"
local cases = require "spec.matrix.local_cases"

local lacking = local_site.lacking()
if lacking then
  io.stderr:write("no local machines here: ", lacking, "\n")
  return 1
end

---Points to die at twice: the run's, how it goes on, the point of that.
local twice = {
  bake = {
    { "during create_machine", "resume", "done upload /opt/app.conf" },
    { "during COMMAND", "resume", "during COMMAND" },
    { "done snapshot", "resume", "cutting destroy_machine" },
    { "done COMMAND", "abort", "during destroy_machine" },
    { "cutting snapshot", "abort", "cutting destroy_machine" },
  },
  swap = {
    { "cutting create_machine", "resume", "done create_machine" },
    { "during assign_address", "resume", "cutting assign_address" },
    { "during destroy_machine", "resume", "cutting destroy_machine" },
    { "done create_machine", "abort", "cutting destroy_machine" },
    { "done assign_address", "abort", "during assign_address" },
    { "after the intent of drain app-N", "abort", "done assign_address" },
  },
  failing = {
    { "during destroy_machine", "resume", "cutting destroy_machine" },
    { "after the intent of destroy app-N", "abort", "done destroy_machine" },
  },
}

local COMMAND = "command echo began >>/opt/runs; sleep 0.2; echo "

local brief = {
  { "bake", "during COMMAND", "resume", { "image", "ledger image" } },
  { "bake", "cutting snapshot", "abort" },
  { "swap", "done assign_address", "abort" },
}

local kinds = {
  "^before the intent", "^after the intent", "^during", "^cutting", "^done", "^before the outcome",
  "^after the outcome", "^before a write", "^after a write",
}

local count = { resume = 0, abort = 0, twice = 0, failed = 0 }
local world = require("spec.matrix.local_world").new()
local all <const> = cases.new(world, arg[1] == "short")

local function try(name, final, point, how, second)
  point = point:gsub("COMMAND", COMMAND)
  second = second and second:gsub("COMMAND", COMMAND)
  local ok, problems = xpcall(all.run, debug.traceback, all, name, final, point, how, second)
  if not ok then problems = { tostring(problems) } end
  local which = second and "twice" or how
  count[which] = count[which] + 1
  if #problems == 0 then return end
  count.failed = count.failed + 1
  print(('FAILED %s "%s" %s%s'):format(name, point, how, second and ' "' .. second .. '"' or ""))
  for _, problem in ipairs(problems) do print("      " .. problem) end
end

---Some of a kind, spread over the run; of a run that fails, what it does from then on.
local function sample(name, points, most)
  local chosen = {}
  for _, kind in ipairs(kinds) do
    local some, unwinding = {}, name ~= "failing"
    for _, point in ipairs(points) do
      unwinding = unwinding or point:find("^before the outcome of /2")
      if unwinding and point:find(kind) then some[#some + 1] = point end
    end
    local step = math.max(1, #some / most)
    for at = 1, #some, step do chosen[#chosen + 1] = some[at // 1] end
  end
  return chosen
end

local function matrix(name, most)
  local known = all:count(name)
  local chosen = sample(name, known.points, most)
  print(("%s: %d points, %d of them"):format(name, #known.points, #chosen))
  for _, point in ipairs(chosen) do
    try(name, known.final, point, "resume")
    try(name, known.final, point, "abort")
  end
  for _, one in ipairs(twice[name]) do try(name, known.final, table.unpack(one, 1, 3)) end
end

local word = arg[1] or "short"
if word == "short" then
  for _, one in ipairs(brief) do try(one[1], one[4], one[2], one[3]) end
elseif word == "all" or word == "every" then
  for _, name in ipairs(cases.names) do matrix(name, word == "all" and 2 or math.huge) end
elseif word == "points" then
  for _, name in ipairs(cases.names) do
    for _, point in ipairs(all:count(name).points) do print(name, point) end
  end
else
  try(word, all:count(word).final, arg[2], arg[3] or "resume", arg[4])
end
world:close()
print(("local kill matrix: %d resumed, %d aborted, %d killed twice, %d requests; %d failed"):format(
  count.resume, count.abort, count.twice, all.requests, count.failed))
os.exit(count.failed == 0 and 0 or 1)
