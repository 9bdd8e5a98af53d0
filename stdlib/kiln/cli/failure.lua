---The last lines of a run: what became of it, what still exists, the next command.
local error_ = require "kiln.error"
local remains = require "kiln.run.remains"
local screen = require "kiln.cli.screen"
local sh = require "kiln.sh"

local failure = {}

---Gives the last lines of output that an error carries.
---@param err table
---@return string[] lines at most 5
function failure.output(err)
  local text = err.output or ""
  local lines = {}
  for line in tostring(text):gmatch("[^\n]+") do lines[#lines + 1] = screen.output(line) end
  return table.move(lines, math.max(#lines - 4, 1), #lines, 1, {})
end

---Returns the calls that led to an error.
---@param err table
---@return string[] lines none for an end that is no failure
function failure.traceback(err)
  local lines = {}
  if error_.halts(err) or error_.is(err, "cancelled", "locked") then return lines end
  for line in (err.traceback or ""):gmatch("[^\n]+") do
    lines[#lines + 1] = "    " .. screen.line((line:gsub("^%s+", "  ")))
  end
  return lines
end

local function summary_of(outcome)
  local result = outcome.result
  if type(result) == "table" and type(result.summary) == "string" then return result.summary end
  if type(result) == "string" then return result end
end

local function seconds(outcome)
  return ("%.1fs"):format(outcome.seconds or 0)
end

---How kiln is called for the run's project from here.
local function program(outcome)
  if (outcome.dir or ".") == "." then return "kiln" end
  return "kiln -C " .. sh.quote(outcome.dir)
end

local endings = {}

endings.done = function(outcome)
  local summary = summary_of(outcome)
  local lines = { ("done in %s%s"):format(seconds(outcome), summary and " · " .. summary or "") }
  local why = outcome.late_abort
  if why then
    lines[2] = ("  too late to undo: %s, so the run went on"):format(
      why == true and "the old release was given up before" or why)
  end
  if why == true then
    lines[3] = ("  go back: %s rollback %s"):format(program(outcome), outcome.service)
  end
  return lines
end

endings.aborted = function(outcome)
  return { ("aborted in %s · what %s is undone"):format(seconds(outcome),
    outcome.stands and "kiln made" or "the run did") }
end

endings.stopped = function(outcome, id)
  local err = outcome.error
  local lines = { ("stopped after %s: %s"):format(seconds(outcome),
    err and err.message or "by a signal") }
  if err and err.kind == "diverged" then
    for _, text in ipairs(failure.output(err)) do lines[#lines + 1] = "    " .. text end
  end
  lines[#lines + 1] = ("  go on: %s resume %s · undo: %s abort %s")
    :format(program(outcome), id, program(outcome), id)
  return lines
end

local function what_failed(err)
  return ("failed%s: %s"):format(err.step and " at " .. err.step or "", err.message)
end

endings.kept = function(outcome, id)
  return {
    what_failed(outcome.error),
    ("  kept as it is · go on at the failed step: %s resume %s · undo: %s abort %s")
      :format(program(outcome), id, program(outcome), id),
    ("  see everything: %s show %s · %s log %s"):format(program(outcome), id, program(outcome), id),
  }
end

endings.locked = function(outcome)
  return { "locked: " .. outcome.error.message }
end

endings.usage = function(outcome)
  return { "kiln: " .. outcome.error.message }
end

endings.rolled_back = function(outcome, id)
  local err = outcome.error
  local lines = { not err.undone_text and what_failed(err) or nil }
  lines[#lines + 1] = err.undone_text
    and ("rolled back: %s; what the attempt changed is undone"):format(err.undone_text)
    or outcome.stands and "rolled back: what kiln made is removed"
    or "rolled back: nothing that it changed is left"
  lines[#lines + 1] = ("  see everything: %s show %s · keep it to look at: --on-error keep")
    :format(program(outcome), id)
  return lines
end

endings.failed = function(outcome, id)
  local err = outcome.error
  local lines = { what_failed(err) }
  if err.kept then lines[#lines + 1] = "  kept as it is, because of --on-error keep" end
  if id then
    lines[#lines + 1] = ("  see everything: %s show %s · %s log %s")
      :format(program(outcome), id, program(outcome), id)
  end
  return lines
end

local most_shown = 5

---What the recipe did to hosts and services that kiln did not make.
local function not_undone(outcome)
  local lines, names = {}, outcome.stands or {}
  for index, name in ipairs(names) do
    if index > most_shown then
      lines[index] = ("  … and %d more; `kiln show` lists them"):format(#names - most_shown)
      break
    end
    lines[index] = "  not undone by kiln: " .. name
  end
  return lines
end

---Says what became of a run.
---@param outcome kiln.Outcome
---@param verbose? any with the traceback
---@param told? table<string, boolean> output that a failed step was shown with
---@return string[] lines
function failure.ending(outcome, verbose, told)
  local id = outcome.run and outcome.run:sub(1, 4)
  local lines = endings[outcome.status](outcome, id)
  local err = outcome.error
  if err and lines[1] == what_failed(err) and not (told and told[tostring(err.output)]) then
    for index, text in ipairs(failure.output(err)) do
      table.insert(lines, index + 1, "    " .. text)
    end
  end
  if verbose and err then
    local calls = failure.traceback(err)
    table.move(calls, 1, #calls, #lines + 1, lines)
  end
  if outcome.remains and outcome.status ~= "done" then
    for _, text in ipairs(remains.lines(outcome.remains)) do lines[#lines + 1] = "  " .. text end
    if outcome.status == "failed" and #outcome.remains.there > 0 then
      lines[#lines + 1] = ("  remove what nothing needs: %s gc"):format(program(outcome))
    end
  end
  if outcome.status ~= "done" then
    table.move(not_undone(outcome), 1, most_shown + 1, #lines + 1, lines)
  end
  return lines
end

return failure
