---One command on many machines: some at a time, with a bound on failures, and a report that puts
---equal outcomes together.
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local scope = require "kiln.scope"

local fleet = {}

---@class kiln.ssh.Outcome
---@field name string
---@field code? integer
---@field signal? string
---@field out? string
---@field err? string
---@field error? kiln.Error it could not be run to its end
---@field skipped? boolean not begun, after too many failures

---@class kiln.ssh.Group
---@field names string[] machines of this outcome, in the order given
---@field outcome kiln.ssh.Outcome of the first of them

---@class kiln.ssh.Report
---@field outcomes kiln.ssh.Outcome[] in the order of the machines
---@field ok integer
---@field failed integer
---@field skipped integer
---@field groups kiln.ssh.Group[] the largest first
local Report = {}
Report.__index = Report
Report.__name = "kiln.ssh.Report"

local own_options = { at_once = true, max_failures = true, check = true }

local function good(outcome)
  return outcome.code == 0
end

local function tail(text, count)
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return table.move(lines, math.max(#lines - count + 1, 1), #lines, 1, {})
end

local function headline(outcome)
  if outcome.skipped then return "not begun" end
  if outcome.error then return outcome.error.kind end
  return outcome.signal and "signal " .. outcome.signal or "status " .. outcome.code
end

---"app-1, app-2 and 48 more"
local function list(names)
  if #names <= 4 then return table.concat(names, ", ") end
  return ("%s, %s, %s and %d more"):format(names[1], names[2], names[3], #names - 3)
end

---Gives a report in words: one paragraph for each different outcome, with the last lines printed.
function Report:__tostring()
  local lines = { ("%d of %d ok, %d failed, %d not begun"):format(self.ok, #self.outcomes,
    self.failed, self.skipped) }
  for _, group in ipairs(self.groups) do
    local outcome = group.outcome
    lines[#lines + 1] = ("%s · %d: %s"):format(headline(outcome), #group.names, list(group.names))
    local said = outcome.error and outcome.error.message
      or (outcome.out or "") .. (outcome.err or "")
    for _, line in ipairs(tail(said, 5)) do lines[#lines + 1] = "    " .. line end
  end
  return table.concat(lines, "\n")
end

---Outcomes are equal when all that can be compared is: a message names its machine.
local function likeness(outcome)
  if outcome.skipped then return "skipped" end
  if outcome.error then return "error " .. outcome.error.kind end
  return ("%s|%s|%d|%s%s"):format(outcome.code, outcome.signal, #outcome.out, outcome.out,
    outcome.err)
end

local function make_report(outcomes)
  local report = setmetatable({
    outcomes = outcomes, ok = 0, failed = 0, skipped = 0, groups = {},
  }, Report)
  local by_likeness = {}
  for _, outcome in ipairs(outcomes) do
    local count = outcome.skipped and "skipped" or good(outcome) and "ok" or "failed"
    report[count] = report[count] + 1
    local group = by_likeness[likeness(outcome)]
    if not group then
      group = { names = {}, outcome = outcome, place = #report.groups }
      by_likeness[likeness(outcome)] = group
      table.insert(report.groups, group)
    end
    table.insert(group.names, outcome.name)
  end
  table.sort(report.groups, function(a, b)
    if #a.names ~= #b.names then return #a.names > #b.names end
    return a.place < b.place
  end)
  return report
end

local function run_one(machine, text, options)
  local ok, done = xpcall(machine.run, error_.from, machine, text, options)
  if ok then
    return { name = machine.name, code = done.code, signal = done.signal, out = done.out,
      err = done.err }
  end
  -- What ends the whole run, and a fault of the program, is nobody's outcome.
  if error_.is(done, "cancelled", "usage", "error") or error_.halts(done) then error(done, 0) end
  return { name = machine.name, error = done }
end

---Runs a command on many machines. A failure is a status other than 0, or an error; after more
---than `max_failures` of them no other machine begins, and those that run go on to their end.
---Raises `exit` with the report in `report` when there were more failures than allowed.
---@async
---@param machines (kiln.ssh.Session|kiln.Machine)[]
---@param text string shell text
---@param opts? { at_once: integer?, max_failures: integer?, check: boolean?, [string]: any } how
---  many at the same time (50); failures allowed (0); raise (true); the rest as for `run`
---@return kiln.ssh.Report
function fleet.run(machines, text, opts)
  opts = opts or {}
  local options = { check = false }
  for key, value in pairs(opts) do
    if not own_options[key] then options[key] = value end
  end
  local allowed, failures = opts.max_failures or 0, 0
  local outcomes = scope.all(machines, function(machine)
    if failures > allowed then return { name = machine.name, skipped = true } end
    local outcome = run_one(machine, text, options)
    if not good(outcome) then failures = failures + 1 end
    return outcome
  end, { at_once = opts.at_once or 50 })
  local report = make_report(outcomes)
  if failures > allowed and opts.check ~= false then
    error_.raise { kind = "exit", report = report, message = tostring(report) }
  end
  return report
end

signature.class("report", Report)

return fleet
