---How a task is cancelled because another task of its block decided.
---
---A cancel takes effect in an operation, whose outcome records it, or in a wait between two
---operations. Then the journal gets the place ("/2!0"): how many operations, children and blocks
---the task had begun. A resumed run cancels the task at the same place. A task that has not yet
---come to all that the journal has of it is never cancelled before: it would not undo the rest.
local task = require "rt.task"
local timer = require "rt.timer"
local error_ = require "kiln.error"

local cancel = {}

---Makes the error that a cancelled task gets.
---@return kiln.Error
local function decided()
  return error_.new { kind = "cancelled", message = "another task of the block decided" }
end

---@param state kiln.TaskState
---@return string
local function place_of(state)
  return ("%d %d %d"):format(state.ordinal or 0, state.children, state.choices or 0)
end

---Tells whether the journal has more of a task than the task has come to.
---@param state kiln.TaskState
---@return boolean
local function is_behind(state)
  if not state.run or state.operation then return false end
  if state.replaying then return true end
  for _, key in ipairs(state.run.store:op_keys_below(state.run.id, state.path)) do
    local kind, number = key:match("^([#!/~])(%d+)", #state.path + 1)
    local come = kind == "#" and state.ordinal or kind == "!" and state.choices
      or kind == "/" and state.children or kind == "~" and state.cleanups or 0
    if math.tointeger(tonumber(number)) > come then return true end
  end
  return false
end

---Writes down where a task is cancelled between two operations.
---@param state kiln.TaskState
---@return kiln.Error? failure of the journal
local function mark(state)
  state.doomed = true
  local key = state.path .. "!0"
  local ok, failure = xpcall(function()
    if not state.run:chosen(key) then state.run:choose(key, place_of(state)) end
  end, error_.from)
  return not ok and failure or nil
end

---Wakes a task that has come to everything that the journal has of it.
local function interrupt(target, state)
  state.due = nil
  local failure
  if state.operation then
    state.interrupted = true
  elseif state.run then
    failure = mark(state)
  end
  target:cancel(failure or decided())
end

local function deliver(target, state)
  if is_behind(state) then
    state.doomed, state.due = true, true
  elseif state.cleanup and not state.within_cleanup then
    state.doomed, state.due, state.cancelled = nil, nil, true
  else
    interrupt(target, state)
  end
end

---Cancels a task. One that cleans up ends that first, unless the cause stops the run.
---@param target rt.Task
---@param state kiln.TaskState? of the task
---@param cause? kiln.Error
function cancel.task(target, state, cause)
  if error_.halts(cause) then
    target:cancel(cause)
  elseif state then
    deliver(target, state)
  else
    target:cancel(decided())
  end
end

---Cancels the running task if that was put off and it has now come to all that the journal has.
---@param state kiln.TaskState
function cancel.come(state)
  if state.due then deliver(task.current(), state) end
end

---Notes that an operation ended although its task was cancelled meanwhile: the task's next wait
---raises it. Raises `store`.
---@param state kiln.TaskState
---@param taken boolean whether the operation ended as cancelled
function cancel.after_operation(state, taken)
  local late = state.interrupted and not taken
  state.interrupted = nil
  local failure = late and not state.operation and mark(state)
  if failure then error(failure, 0) end
end

---Raises `cancelled` where the journal says that the running task was cancelled between operations.
---@param state kiln.TaskState
function cancel.check(state)
  if not state.doomed or state.cleanup or state.operation or not state.run then return end
  if state.run:chosen(state.path .. "!0") ~= place_of(state) then return end
  state.doomed, state.due = nil, nil
  local free, cause = pcall(timer.sleep, 0) -- takes the cancel that no wait took
  if not free and error_.halts(cause) then error(cause, 0) end
  error(decided(), 0)
end

---Raises the cancel that came while the running task cleaned up.
---@param state kiln.TaskState
function cancel.after_cleanup(state)
  if state.cleanup then return end
  if not state.cancelled then return cancel.check(state) end
  local failure = state.run and not state.operation and mark(state)
  state.doomed = nil
  error(failure or decided(), 0)
end

return cancel
