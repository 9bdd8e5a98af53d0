---Deployments in a row on one site, some of them disturbed: which there are, how each goes, and
---what must hold after it.
local fs = require "rt.fs"
local json = require "rt.json"
local timer = require "rt.timer"
local load_ = require "kiln.load"
local store_ = require "kiln.store"
local victim = require "spec.soak.victim"

local exe = assert(fs.realpath("/proc/self/exe"))

local deployments = {}

---@class spec.soak.Deployments
---@field counts table<string, integer> how runs ended, what was killed
---@field lost string[] requests without an answer, with the time and what was going on
---@field problems string[]
local Deployments = {}
Deployments.__index = Deployments

---@param world spec.LocalWorld
---@param options { seed: integer, build_every: integer }
---@return spec.soak.Deployments
function deployments.new(world, options)
  math.randomseed(options.seed)
  local dir = world:project("soak", { "spec/soak/app.lua", "examples/app/app.service",
    "examples/app/bin" })
  return setmetatable({
    world = world, dir = dir, number = 0, version = "v1", build = 0, usual = { helpers = 20,
    lines = 10 }, build_every = options.build_every, requests = 0, resent = 0, counts = {},
    lost = {}, problems = {}, log = {},
  }, Deployments)
end

local function count(self, what) self.counts[what] = (self.counts[what] or 0) + 1 end

---Notes a moment, for the story of a lost request.
local function note(self, text, ...)
  self.log[#self.log + 1] = { at = timer.now(), text = text:format(...) }
end

local function problem(self, text, ...)
  self.problems[#self.problems + 1] = ("deployment %d: "):format(self.number) .. text:format(...)
end

---Draws what is killed, when, and what follows. It takes the same number of draws each time: a seed
---gives the same plan whatever the machine's speed does to the runs.
local function draw(usual)
  local kind, place, way = math.random(), math.random(), math.random()
  local again, place_again, delay = math.random(), math.random(), math.random()
  local function death(chance, part)
    if chance < 0.35 then
      return { of = "helper", nth = math.ceil(part * usual.helpers), after = delay * 0.05 }
    elseif chance < 0.6 then
      return { of = "kiln", nth = math.floor(part * usual.lines), after = delay * 0.6 }
    end
  end
  return {
    death = death(kind, place), way = way < 0.6 and "resume" or "abort",
    again = death(again * 2, place_again),
  }
end

---The run that is open, nil when there is none.
local function open_run(self)
  local store <close> = store_.open(self.dir)
  local row = store:runs({ limit = 1 })[1]
  local open = row and (row.status == "running" or row.status == "aborting"
    or row.status == "stopped")
  return open and row.id or nil
end

local function serving(self)
  local store <close> = store_.open(self.dir)
  local row = store:serving("soak", "default")
  if row then return row.version, json.decode(row.data).address.ip end
end

local function live(self, death, ...)
  note(self, "kiln %s begins", table.concat({ ... }, " "))
  local life = victim.live({
    argv = { exe, "-C", self.dir, ... }, env = self.world.env, timeout = 600,
  }, death)
  note(self, "kiln ends with %s%s", life.code or "SIGKILL",
    life.killed and ", killed: " .. life.killed or "")
  if life.killed == "kiln" then
    count(self, "kiln killed")
  elseif life.killed then
    count(self, "helpers killed")
    count(self, "helper " .. life.killed)
  end
  return life
end

---Goes on with what was left open until nothing is.
local function go_on(self, plan)
  local way, death = plan.way, plan.again
  for _ = 1, 5 do
    local run = open_run(self)
    if not run then return end
    local life = live(self, death, way, run)
    count(self, way == "resume" and "resumed" or "aborted")
    if life.code and life.code ~= 0 and life.code ~= 3 and life.code ~= 4 then
      problem(self, "%s ended with %s:\n%s", way, life.code, life.text)
    end
    death = nil
  end
  problem(self, "run %s does not come to its end", open_run(self))
end

---Counts how a run ended. Undisturbed, "done" alone will do. One whose helper was killed may fail,
---be rolled back or stop: what it leaves then is looked at.
local function judge(self, life)
  if life.code == 0 then
    count(self, "done")
  elseif life.code == 1 and life.killed then
    count(self, "failed")
  elseif life.code == 3 and life.killed then
    count(self, "rolled back")
  elseif life.code == nil and life.killed == "kiln" or life.code == 4 and life.killed then
    count(self, "stopped")
  else
    problem(self, "ended with %s, killed: %s:\n%s", life.code or life.signal,
      life.killed or "nothing", life.text)
  end
end

---The next deployment: the other version; now and then of a new image.
function Deployments:next(undisturbed)
  self.number = self.number + 1
  self.log = { table.unpack(self.log, math.max(1, #self.log - 20)) }
  if self.number % self.build_every == 1 then self.build = self.build + 1 end
  local plan = draw(self.usual)
  local before = serving(self)
  local wanted = before == "v1" and "v2" or "v1"
  local life = live(self, not undisturbed and plan.death or nil, "run", "app.lua", "deploy",
    "--version", wanted, "--build", tostring(self.build))
  judge(self, life)
  if undisturbed then self.usual = { helpers = life.helpers, lines = life.lines } end
  if open_run(self) then go_on(self, plan) end
  local after, ip = serving(self)
  self.url = ("http://%s:8080/"):format(ip)
  if after ~= wanted and after ~= before then
    problem(self, "%s serves, neither %s nor %s", after, wanted, before)
  end
  if life.killed then self:look() end
  return life
end

---Looks whether the ledger, the site and the host agree.
function Deployments:look()
  for _, text in ipairs(self.world:problems(self.dir)) do problem(self, "%s", text) end
end

---Takes the requests of a load that ends, and the lost ones with what went on around them.
local function settle(self, traffic)
  local report = traffic:stop()
  self.requests = self.requests + report.requests
  self.resent = self.resent + report.resent
  self.failed = (self.failed or 0) + report.failed
  self.slowest = math.max(self.slowest or 0, report.latency.max)
  for _, one in ipairs(report.failures) do
    local at = traffic.started + one.at
    local story = { ("deployment %d, sent at %.2f on a %s connection: %s"):format(self.number, at,
      one.fresh and "new" or "kept", one.message) }
    for _, moment in ipairs(self.log) do
      if math.abs(moment.at - at) < 20 then
        story[#story + 1] = ("    %.2f %s"):format(moment.at, moment.text)
      end
    end
    self.lost[#self.lost + 1] = table.concat(story, "\n")
  end
end

---Sends requests from now on, and ends those of before: one load begins before the other ends.
function Deployments:traffic()
  local old = self.load
  self.load = load_.start { url = self.url, rate = 100, at_once = 4 }
  if old then settle(self, old) end
end

---Ends the requests.
function Deployments:quiet()
  local old = self.load
  self.load = nil
  if old then settle(self, old) end
end

return deployments
