---Cases of the kill matrix on local machines: a scenario, a point to die at, what follows.
local fs = require "rt.fs"
local json = require "rt.json"
local load_ = require "kiln.load"
local store_ = require "kiln.store"

local cases = {}

local Cases = {}
Cases.__index = Cases

---Names of scenarios: a bake; a release swapped in; one that never becomes healthy.
cases.names = { "bake", "swap", "failing" }

local ends = { bake = "done", swap = "done", failing = "rolled_back" }

---The run that a dead process left open, nil when there is none; and the newest one of all.
local function left_by(dir)
  local store <close> = store_.open(dir)
  local row = store:runs({ limit = 1 })[1]
  local open = row and (row.status == "running" or row.status == "aborting"
    or row.status == "stopped")
  return open and row.id or nil, row and row.id
end

---@param world spec.LocalWorld
---@param brief? boolean no release is kept behind the one that serves: a swap retires nothing
function cases.new(world, brief)
  return setmetatable({ world = world, brief = brief, bakes = 0, requests = 0 }, Cases)
end

local function outcome(done)
  assert(done.code == 0, done.out .. done.err)
  return json.decode(done.out)
end

---Puts releases of the app into service, one after the other, and bakes what else is wanted.
function Cases:prepare_app(name)
  if not self.app then
    self.app = self.world:project("app", { "examples/app/app.lua", "examples/app/app.service",
      "examples/app/bin" })
    self:deploy("v1", "done")
    self.serving, self.other = "v1", "v2"
    local store <close> = store_.open(self.app)
    local address = json.decode(store:serving("app", "default").data).address
    self.url = ("http://%s:8080/"):format(address.ip)
  end
  if not self.brief and not self.swapped then
    self:deploy("v2", "done")
    self.serving, self.other, self.swapped = "v2", "v1", true
  end
  if name == "failing" and not self.baked then
    self:deploy("v3", "rolled_back")
    self.baked = true
  end
end

function Cases:deploy(version, status)
  local made = outcome(self.world:life("start", self.app .. "/app.lua", nil, version))
  assert(made.status == status, made.error or made.status)
end

---What a case starts from.
function Cases:begin(name)
  if name == "bake" then
    self.bakes = self.bakes + 1
    local version = "v" .. self.bakes
    local dir = self.world:project("bake" .. self.bakes,
      { "spec/matrix/tiny.lua", "spec/matrix/app.conf" })
    return { name = name, dir = dir, file = dir .. "/tiny.lua", version = version, roles = {},
      start = {} }
  end
  self:prepare_app(name)
  local version = name == "failing" and "v3" or self.other
  local roles = { [self.other] = "new", [self.serving] = "old" }
  return {
    name = name, dir = self.app, file = self.app .. "/app.lua", version = version, roles = roles,
    start = self.world:state(self.app, roles),
  }
end

---Takes note of what serves, for the next case; a bake's image goes with its project.
function Cases:finish(case)
  if case.name == "bake" then
    for _, row in ipairs(self.world.driver:images()) do
      if row.name:find "^tiny" then self.world.driver:destroy_image(row.id) end
    end
    return
  end
  local store <close> = store_.open(self.app)
  if store:serving("app", "default").version ~= self.serving then
    self.serving, self.other = self.other, self.serving
  end
end

---An undisturbed run: its points, and the state that every other one must reach.
---@param name string of the scenario
---@return { points: string[], final: string[] }
function Cases:count(name)
  local case = self:begin(name)
  local made = outcome(self.world:life("start", case.file, nil, case.version))
  assert(made.status == ends[name], made.error or made.status)
  local known = { points = made.points, final = self.world:state(case.dir, case.roles) }
  self:finish(case)
  return known
end

---What the command of a baked image wrote each time it ran.
local function runs_in_images(world)
  local texts = {}
  for _, row in ipairs(world.driver:images()) do
    if row.name:find "^tiny" then
      texts[#texts + 1] = fs.read(("%s/images/%s/fs/opt/runs"):format(world.site, row.id)) or "none"
    end
  end
  return texts
end

---The killed process, then whatever goes on with its run; problems are added to `found`.
local function live_and_go_on(self, case, point, how, second, found)
  local world = self.world
  local _, before = left_by(case.dir)
  local killed = world:life("start", case.file, point, case.version)
  if killed.signal ~= "KILL" then
    found[#found + 1] = "it did not come to that point: " .. killed.out .. killed.err
    return
  end
  local id, newest = left_by(case.dir)
  case.unborn = newest == before -- it died before it was written down: nothing happened
  if id and second then
    killed = world:life(how, case.dir, second, id)
    if killed.signal ~= "KILL" then
      found[#found + 1] = ("the second life did not come to %s: %s"):format(second, killed.out)
    end
    id = left_by(case.dir)
  end
  if not id then return end
  local done = world:kiln(case.dir, how, id)
  local wanted = how == "resume" and ends[case.name] == "rolled_back" and 3 or 0
  if done.code ~= wanted then
    found[#found + 1] = ("%s ended with %s: %s"):format(how, tostring(done.code), done.err)
  end
end

---Compares what is there with what may be: after a resume the end of an undisturbed run; after an
---abort what was before, with an image that was whole by then, or the end when it came too late.
---@return string? problem
local function differing(state, start, final, how)
  local function text(list, ...)
    list = table.move(list, 1, #list, select("#", ...) + 1, { ... })
    table.sort(list)
    return table.concat(list, ", ")
  end
  local got, wanted = text(state), how == "resume" and text(final) or text(start)
  if got == wanted or final and got == text(final) then return nil end
  if how == "abort" and got == text(start, "image", "ledger image") then return nil end
  return ("wanted %s\n      got    %s"):format(wanted, got)
end

---Runs one case.
---@param name string of the scenario
---@param final string[]? the undisturbed run's state; nil: only what was before will do
---@param point string
---@param how "resume"|"abort"
---@param second? string a point of the continued run to die at
---@return string[] problems none: everything holds
function Cases:run(name, final, point, how, second)
  local case, found = self:begin(name), {}
  local function body() live_and_go_on(self, case, point, how, second, found) end
  if name == "bake" then
    body()
  else
    local report = load_.during({ url = self.url, rate = 60, at_once = 4 }, body)
    self.requests = self.requests + report.requests
    for _, one in ipairs(report.failures) do
      found[#found + 1] = ("a request failed at %.2f s: %s"):format(one.at, one.message)
    end
  end
  local differs = differing(self.world:state(case.dir, case.roles), case.start,
    case.unborn and case.start or final, how)
  found[#found + 1] = differs
  for _, text in ipairs(runs_in_images(self.world)) do
    if text ~= "began\nended\n" then found[#found + 1] = "the command ran so: " .. text end
  end
  local rest = self.world:problems(case.dir)
  table.move(rest, 1, #rest, #found + 1, found)
  self:finish(case)
  return found
end

return cases
