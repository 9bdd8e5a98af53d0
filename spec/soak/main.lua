---The soak: deployments in a row on one site of local machines, under load, with helpers and kiln
---itself killed now and then. At the end there must be what there was at the start, and no request
---lost. Needs root and the base (`kiln doctor`).
---
---  kiln lua spec/soak/main.lua [DEPLOYMENTS [SEED]]
local fs = require "rt.fs"
local timer = require "rt.timer"
local deployments = require "spec.soak.deployments"
local local_site = require "spec.support.local_site"
local local_world = require "spec.matrix.local_world"
local measure = require "spec.soak.measure"

local lacking = local_site.lacking()
if lacking then
  io.stderr:write("no local machines here: ", lacking, "\n")
  return 1
end

local total = math.tointeger(tonumber(arg[1] or 200))
local seed = math.tointeger(tonumber(arg[2] or 1))
if not total or total < 1 or not seed then
  io.stderr:write("usage: kiln lua spec/soak/main.lua [DEPLOYMENTS [SEED]]\n")
  return 64
end

local CALM <const> = 3 -- before the first measure: a release serves, one is kept, one is gone
local STATION <const> = 20 -- deployments between two lines of the log

local world = local_world.new()
local temp = assert(fs.temp_dir())
world.env.TMPDIR = temp
local soak = deployments.new(world, { seed = seed, build_every = 10 })
local started = timer.now()

local function say(text, ...)
  io.stdout:write(text:format(...), "\n")
  io.stdout:flush()
end

---What users do about what is kept for them: images that no release needs go by `gc`, the journals
---of old runs by `runs prune`.
local function tidy()
  for _, words in ipairs { { "gc", "--yes" }, { "runs", "prune", "--keep", "2", "--yes" } } do
    local done = world:kiln(soak.dir, table.unpack(words))
    if done.code ~= 0 then
      soak.problems[#soak.problems + 1] = ("kiln %s ended with %s: %s"):format(
        table.concat(words, " "), tostring(done.code), done.out .. done.err)
    end
  end
end

local function counted()
  local parts = {}
  for what, count in pairs(soak.counts) do parts[#parts + 1] = ("%s %d"):format(what, count) end
  table.sort(parts)
  return table.concat(parts, ", ")
end

local function run()
  for _ = 1, CALM do soak:next(true) end
  soak:traffic()
  tidy()
  local before = measure.take(world, soak.dir, temp)
  for number = 1, total do
    soak:next()
    soak:traffic()
    if number % STATION == 0 then
      say("%d deployments in %.0f s, %d requests, %d lost, %d problems: %s", number,
        timer.now() - started, soak.requests, soak.failed, #soak.problems, counted())
      tidy()
    end
  end
  soak:next(true) -- whatever the last one left, this one has made of it what a release leaves
  tidy()
  soak:look()
  local after = measure.take(world, soak.dir, temp)
  soak:quiet()
  return before, after
end

local before, after = run()
local removed = world:kiln(soak.dir, "run", "app.lua", "remove")
if removed.code ~= 0 then
  soak.problems[#soak.problems + 1] = "kiln run app.lua remove: " .. removed.err
end
local rows, grown = measure.compare(before, after)
say("\n| | after %d deployments | after %d |\n|---|---|---|", CALM, soak.number)
for _, row in ipairs(rows) do say("%s", row) end
say("\n%s", counted())
for _, text in ipairs(soak.lost) do say("LOST %s", text) end
for _, text in ipairs(soak.problems) do say("PROBLEM %s", text) end
world:close()
assert(fs.remove(temp, { recursive = true }))
say("soak: %d deployments in %.0f s, seed %d, %d requests, %d lost, %d sent again, slowest %.0f ms;"
  .. " %d measures grew, %d problems", total, timer.now() - started, seed, soak.requests,
  soak.failed, soak.resent, soak.slowest * 1e3, #grown, #soak.problems)
os.exit(#grown == 0 and #soak.problems == 0 and soak.failed == 0 and 0 or 1)
