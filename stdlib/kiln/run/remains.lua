---What stands of a run: the ledger and the journal are asked before anything is said to be undone.
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"

local remains = {}

---Kinds that outlive releases: nobody undoes them, later runs use them.
local outlives = { image = true, address = true, balancer = true, database = true }

---Runs that can be resumed or aborted.
local is_open = { running = true, aborting = true, stopped = true, kept = true }

---@class kiln.Remains
---@field there table[] ledger rows of what is there and that an undo should have removed
---@field unknown table[] ledger rows of what may be there: a creation whose end nobody knows
---@field stays table[] ledger rows of what outlives releases
---@field open string[] names of operations that may have taken effect: the journal has no outcome

---Asks the ledger and the journal.
---@param store kiln.Store
---@param run string
---@return kiln.Remains
function remains.of(store, run)
  local found = { there = {}, unknown = {}, stays = {}, open = {} }
  for _, row in ipairs(store:ledger { run = run }) do
    local list = row.state == "intent" and found.unknown
      or row.state == "live" and (outlives[row.kind] and found.stays or found.there)
    if list then list[#list + 1] = row end
  end
  for _, row in ipairs(store:ops(run)) do
    if row.state == "intent" and row.class ~= "read" and row.class ~= "choice" then
      found.open[#found.open + 1] = row.name
    end
  end
  return found
end

---Asks the ledger what is there of a service in an environment.
---@param store kiln.Store
---@param service string as its runs have it
---@param env string
---@return table[] rows live ones, and those whose making nobody knows the end of
function remains.of_service(store, service, env)
  local rows = {}
  local function add(row)
    if row.state ~= "gone" then rows[#rows + 1] = row end
  end
  for _, row in ipairs(store:ledger { service = service, env = env }) do add(row) end
  -- Adopted things have the service's name in its environment; their run is in no state file here.
  for _, row in ipairs(store:ledger { service = environment.name(service, env) }) do
    if row.key == "adopted" and not (row.run ~= "" and store:run(row.run)) then add(row) end
  end
  return rows
end

---Names rows of the ledger: "machine app-blue-1, image app-3f9c21d0 (local)".
---@param rows table[]
---@return string
function remains.names(rows)
  local names = {}
  for index, row in ipairs(rows) do
    local following = rows[index + 1]
    names[index] = row.kind .. " " .. row.name
      .. ((not following or following.provider ~= row.provider) and (" (%s)"):format(row.provider)
      or "")
  end
  return table.concat(names, ", ")
end

---Says of each thing what it is and what removes it.
---@param store kiln.Store
---@param rows table[] of the ledger, of runs that do not go on by themselves
---@return string[] texts "machine app-1 (local) is still there, `kiln gc --yes` removes it"
function remains.ways_out(store, rows)
  local texts = {}
  for index, row in ipairs(rows) do
    local maker = store:run(row.run)
    local status = maker and store:state_of(maker)
    local what = row.state == "intent" and "there may be %s" or "%s is still there"
    local how = "`kiln gc --yes` removes it"
    if is_open[maker and maker.status] then
      how = ("it is of run %s (%s), which `kiln abort %s` ends"):format(row.run:sub(1, 4), status,
        row.run:sub(1, 4))
    end
    texts[index] = ("%s, %s"):format(what:format(remains.names { row }), how)
  end
  return texts
end

---Decides whether a run that undid what it did may say so. One with operations that may have taken
---effect is stopped: it can go on. One that left a machine, or what may be there, failed.
---@param left kiln.Remains
---@param status string "aborted" or "rolled_back"; any other one is kept
---@param err kiln.Error
---@return string status
---@return kiln.Error err
function remains.judge(left, status, err)
  if status ~= "aborted" and status ~= "rolled_back" then return status, err end
  local what = status == "aborted" and "the run was aborted" or err.message
  if #left.open > 0 then
    return "stopped", error_.new { kind = "stopped",
      message = ("%s; it is not known whether these took effect: %s"):format(what,
        table.concat(left.open, ", ")) }
  end
  if #left.there + #left.unknown == 0 then return status, err end
  local failed = error_.new { kind = "remains", op = err.op, choice = err.choice, step = err.step,
    not_undone = err.not_undone,
    message = what .. "; not all that it made is gone" }
  return "failed", failed
end

---Says what stands, in lines for the end of a command's output.
---@param left kiln.Remains
---@return string[] lines
function remains.lines(left)
  local lines = {}
  if #left.there > 0 then lines[1] = "still there: " .. remains.names(left.there) end
  if #left.unknown > 0 then
    lines[#lines + 1] = "may be there, `kiln gc` looks: " .. remains.names(left.unknown)
  end
  if #left.stays > 0 then
    lines[#lines + 1] = "stays for later runs: " .. remains.names(left.stays)
  end
  return lines
end

return remains
