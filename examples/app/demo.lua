---The main job: two releases of the app on local machines, the second swapped in under load.
local app = require "app"
local clock = require "kiln.clock"
local error_ = require "kiln.error"
local load_ = require "kiln.load"
local remove = require "recipes.remove"

local demo = { name = app.name }

local function settings(version)
  return { version = version, db_host = "db.internal", greeting = "Hello", health_within = 30 }
end

local function tell(run, stages, report, ip)
  local lines = { "", "what happened" }
  local function line(text, ...) lines[#lines + 1] = ("  " .. text):format(...) end
  for _, stage in ipairs(stages) do line("%-12s %6.1f s", stage.name, stage.seconds) end
  for _, text in ipairs(load_.lines(report)) do line("%s", text) end
  lines[#lines + 1] = "still running: the app, v2 in service and v1 kept for a rollback"
  line("look at it   curl http://%s:8080/", ip)
  line("go back      kiln -C %s rollback %s", run.dir, run.name)
  line("remove it    kiln run %s/demo.lua remove", run.dir)
  for _, text in ipairs(lines) do run:note(text) end
end

---Prepares the base, bakes v1, serves it, and swaps v2 in while requests keep coming.
function demo.deploy(run)
  local stages = {}
  local function stage(name, body)
    local seconds, result = clock.measure(body)
    stages[#stages + 1] = { name = name, seconds = seconds }
    return result
  end

  stage("base", function() run.cloud:base(app.base) end)
  stage("bake v1", function() app.bake(run, settings "v1") end)
  local first = stage("serve v1", function() return app.deploy(run, settings "v1") end)
  local report = load_.during({
    url = ("http://%s:8080/"):format(first.ip), rate = 300,
    classify = function(answer) return answer.headers["x-app-version"] end,
  }, function()
    stage("bake v2", function() app.bake(run, settings "v2") end)
    stage("swap to v2", function() app.deploy(run, settings "v2") end)
  end)

  tell(run, stages, report, first.ip)
  if report.failed > 0 then
    error_.raise { kind = "failed", message = ("%d of %d requests failed while v2 was swapped in")
      :format(report.failed, report.requests) }
  end
  return { summary = ("v2 in service, %d requests, none failed"):format(report.requests) }
end

---Takes everything away that the demo made, its images too; the base stays for the next time.
function demo.remove(run)
  return remove(run, { images = true })
end

return demo
