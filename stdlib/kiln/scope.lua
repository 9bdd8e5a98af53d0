---Concurrency that cannot leak: tasks end before the block that started them does.
---
---Every task has a path made of its place in its parent ("/2/1"), so paths do not depend on timing.
---What does depend on it, which task of several decided, is written to the run's journal before
---the others are cancelled: a resumed run lets the same one decide.
local task = require "rt.task"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local cancel = require "kiln.run.cancel"
local trace = require "kiln.trace"

local scope = {}

---The scope's own record of a task, inherited by its children: path, run, step.
---@class kiln.TaskState
---@field path string "/" for the first task
---@field children integer children started so far
---@field run? table the run this task belongs to
---@field started_at? string the recipe's line that started it: "app.lua:12"
---@field body? function what the task runs, as its recipe wrote it
---@field step? table the innermost display group
---@field cleanup? boolean what runs removes what a failure or a finished block leaves
---@field within_cleanup? boolean so did what started the task
---@field cancelled? boolean it was cancelled while it cleaned up
---@field ensured? boolean what runs is undone by the block around it when that fails
---@field operation? table the operation whose `perform` runs; calls inside it are part of it
---@field loading? { dir: string } a recipe's file is being loaded: nothing may touch the world
---@field doomed? boolean the journal says that this task was cancelled: where the journal has the
---  place, or at its first operation without an outcome
---@field due? boolean it is to be cancelled when it has come to all that the journal has of it
---@field replaying? boolean it takes an outcome from the journal
---@field interrupted? boolean it was cancelled in an operation
---@field uses? kiln.image.Used[] what the build that runs takes from this computer
---@field choices? integer blocks whose first task decides, begun so far
---@field cleanups? integer cleanups with a path of their own so far

---Gives the running task's record.
---@return kiln.TaskState
function scope.state()
  local locals = task.locals()
  local state = locals.scope
  if not state then
    state = { path = "/", children = 0 }
    locals.scope = state
  end
  return state
end

---Raises `usage` while a recipe loads.
---@param what string what would touch the world
function scope.check_loaded(what)
  if not scope.state().loading then return end
  error_.raise { kind = "usage", message = ("%s would touch the world while the "
    .. "recipe loads; move it into a function that is run, such as deploy"):format(what) }
end

---What an operation starts has no place in the journal: a replay does not start it.
local function child_path(parent)
  if parent.operation then return parent.path end
  parent.children = parent.children + 1
  return (parent.path == "/" and "/" or parent.path .. "/") .. parent.children
end

---Makes the record of the parent's next child.
local function child_state(parent)
  return {
    path = child_path(parent), children = 0,
    run = parent.run, step = parent.step, operation = parent.operation, cleanup = parent.cleanup,
    within_cleanup = parent.cleanup, ensured = parent.ensured, uses = parent.uses,
    due = not parent.cleanup and parent.due or nil,
  }
end

local records = setmetatable({}, { __mode = "k" }) -- of the tasks that run

local function start(state, body, ...)
  local child = task.spawn(function(...)
    task.locals().scope = state
    cancel.come(state)
    return body(...)
  end, ...)
  records[child] = state
  return child
end

local function cancel_task(child, cause)
  cancel.task(child, records[child], cause)
end

---Which task of a block decided: what the journal says, or the first one to come, which is written
---down before it takes effect.
---@class kiln.Choice
---@field made? integer the task that decided
---@field replayed boolean
---@field run? table
---@field key? string

---Begins a block of which one task may decide.
---@return kiln.Choice
local function choice_of(parent)
  local run = not parent.operation and parent.run or nil
  if not run then return { replayed = false } end
  cancel.check(parent)
  parent.choices = (parent.choices or 0) + 1
  local key = parent.path .. "!" .. parent.choices
  local made = run:chosen(key)
  return { run = run, key = key, made = made, replayed = made ~= nil }
end

---Lets a task decide, if none has: by its end, or by its error. What ends the run where it is
---decides nothing.
---@return boolean whether this task is the one
local function decide(choice, index, err)
  if choice.made then return choice.made == index end
  choice.made = index
  if choice.run and not (err and error_.halts(err)) then choice.run:choose(choice.key, index) end
  if err then err.choice = err.choice or choice.key end
  return true
end

---Makes the records of a block's tasks; those that the journal says were cancelled know it.
---@param each? function what every task runs, in place of the bodies
local function states_of(parent, bodies, choice, each)
  local states, started_at = {}, trace.find()
  for index, body in ipairs(bodies) do
    states[index] = child_state(parent)
    states[index].started_at = started_at
    states[index].body = each or body
    states[index].doomed = parent.doomed or choice.replayed and choice.made ~= index or nil
  end
  return states
end

---Cancels the others, once: one that replayed its cancelling has had it. First they come to where
---they wait: one that has only begun to replay may have to clean up. What ends the run where it is
---ends them so: a mere cancel would be in the journal.
---@param halt? kiln.Error
local function cancel_others(children, choice, halt)
  if choice.run and not halt then pcall(timer.sleep, 0) end -- cancelled itself, it goes on here
  local replayed = choice.replayed and not halt
  for _, other in ipairs(children) do
    local state = records[other] or {}
    if other ~= task.current() and (not replayed or state.doomed) then cancel_task(other, halt) end
  end
end

---Joins every child; the first failure cancels the others. Returns the error that came first.
local function join_all(children, failures)
  for _, child in ipairs(children) do
    -- A cancel of ours wakes this join: pass it on and go on joining, nothing outlives the block.
    while true do
      local woken, cause = pcall(child.join, child)
      if woken then break end
      failures.first = failures.first or cause
      for _, other in ipairs(children) do cancel_task(other, cause) end
    end
  end
  return failures.first
end

---Tells whether a body is to be begun. After a failure only what had begun before the run died: it
---comes to where it was cancelled.
local function to_begin(state, failures)
  if not failures.first then return true end
  if error_.halts(failures.first) or state.operation or not state.run then return false end
  state.doomed, state.due = true, true
  return state.run:began(state.path)
end

---Starts bodies, no more than `at_once` at the same time. Paths come from the place in the list.
local function start_all(states, guarded, bodies, at_once, failures)
  local children, next_body = {}, 1
  if not at_once or at_once >= #bodies then
    for index, body in ipairs(bodies) do
      children[index] = start(states[index], guarded, index, body)
    end
    return children
  end
  for worker = 1, at_once do
    children[worker] = task.spawn(function()
      while next_body <= #bodies do
        local index = next_body
        next_body = next_body + 1
        if to_begin(states[index], failures) then
          task.locals().scope = states[index]
          records[task.current()] = states[index]
          if failures.first then pcall(timer.sleep, 0) end -- a cancel that was for the one before
          cancel.come(states[index])
          guarded(index, bodies[index])
        end
      end
    end)
  end
  return children
end

---Refuses to begin a block whose end cannot be awaited, or in a run that was told to stop.
---@param what string
---@return kiln.TaskState
local function begin(what)
  task.may_wait(what)
  local state = scope.state()
  if state.run and not state.operation and not state.cleanup then state.run:check_stop() end
  return state
end

local function run_all(bodies, at_once, each)
  local parent = begin "scope.all"
  local choice = choice_of(parent)
  local states = states_of(parent, bodies, choice, each)
  local results, failures, children = {}, {}, nil

  local function guarded(index, body)
    local ok, value = xpcall(body, trace.handler)
    if ok then
      results[index] = value
      return
    end
    value = error_.from(value) -- no handler sees that memory is out
    local halts = error_.halts(value)
    table.insert(failures, value)
    if failures.first then
      if halts then failures.first = value end -- it could not clean up
      return
    end
    if not halts then
      local decided, mine = xpcall(decide, error_.from, choice, index, value)
      if not decided then value, halts = mine, true elseif not mine then return end
    end
    failures.first = value
    cancel_others(children, choice, halts and value or nil)
  end

  children = start_all(states, guarded, bodies, at_once, failures)
  local err = join_all(children, failures)
  if err then
    for _, other in ipairs(failures) do error_.take_open(err, other) end
    if error_.is(err, "cancelled") then parent.doomed, parent.due = nil, nil end
    error(err, 0)
  end
  if choice.replayed then -- the others were cancelled for it
    choice.run:diverge(choice.key, ("task %d of the block failed then, and does not now")
      :format(choice.made))
  end
  return results
end

---Runs functions at the same time and returns their first results in order. The first error cancels
---the others, waits for them to end, and is raised.
---@async
---@param list any[] functions, or the arguments of `each`
---@param each? (fun(item: any): any)|{ at_once: integer? } called with every item; or the options
---@param opts? { at_once: integer? } how many at the same time (all)
---@return any[] results
function scope.all(list, each, opts)
  if type(each) == "table" then each, opts = nil, each end
  local bodies = {}
  for index, item in ipairs(list) do
    bodies[index] = each and function() return each(item) end or item
  end
  local at_once = opts and opts.at_once
  assert(at_once == nil or (math.type(at_once) == "integer" and at_once >= 1),
    "at_once must be a whole number from 1")
  return run_all(bodies, at_once, each)
end

---Runs bodies until the first ends, or the one that the journal names.
local function contest(parent, bodies, choice)
  local states = states_of(parent, bodies, choice)
  local children, failures, winner, halt = {}, {}, nil, nil
  for index, body in ipairs(bodies) do
    children[index] = start(states[index], function()
      local ok, value = xpcall(body, trace.handler)
      if halt then return end
      if not ok then value = error_.from(value) end
      if not ok and error_.halts(value) then
        halt = value -- of one that lost, too: it could not clean up
        if winner then return end
      elseif winner or failures.first then -- a cancel from outside decides nothing
        return
      else
        local decided, mine = xpcall(decide, error_.from, choice, index, not ok and value)
        if not decided then
          halt = mine
        elseif mine then
          winner = { index = index, ok = ok, value = value }
        else
          return
        end
      end
      cancel_others(children, choice, halt)
    end)
  end
  local err = join_all(children, failures)
  if halt or err then error(halt or err, 0) end
  return winner
end

---Returns the path for the operations of a cleanup that the running task will need. They are apart
---from the task's own: however many of them were done, what comes after has the same keys.
---@return string? path "/2~1": the first one of task /2; nil where nothing is journaled
function scope.cleanup_path()
  local state = scope.state()
  if state.operation or not state.run then return nil end
  state.cleanups = (state.cleanups or 0) + 1
  return ("%s~%d"):format(state.path, state.cleanups)
end

local counters = { "path", "ordinal", "children", "choices", "cleanups" }

---Runs a function with the running task's operations under another path.
local function under(state, path, body)
  if not path then return xpcall(body, trace.handler) end
  local outer = {}
  for _, name in ipairs(counters) do outer[name], state[name] = state[name], 0 end
  state.path = path
  local ok, value = xpcall(body, trace.handler)
  for _, name in ipairs(counters) do state[name] = outer[name] end
  return ok, value
end

---Runs what removes what a failure or a finished block leaves. An abort does not fall into it; that
---another task failed takes effect when it is over.
---@async
---@param body fun(): any
---@param path? string from `cleanup_path` (the task's own)
---@return boolean ok
---@return any result_or_error
function scope.cleanup(body, path)
  local state = scope.state()
  local outer = state.cleanup
  state.cleanup = true
  local ok, value = under(state, path, body)
  state.cleanup = outer
  return ok, value
end

---Takes a cancel that came just before a cleanup began to wait: it takes effect afterwards.
---@async
function scope.put_off()
  local state = scope.state()
  if not state.cleanup or state.within_cleanup then return end
  local ok, err = pcall(timer.sleep, 0)
  if ok then return end
  if error_.halts(err) then error(err, 0) end
  state.cancelled = true
end

---Runs functions at the same time; the first that ends decides, the others are cancelled and ended.
---@async
---@param bodies (fun(): any)[]
---@return any result of the first that ended
---@return integer index its place in the list
function scope.race(bodies)
  if #bodies == 0 then
    error_.raise { kind = "usage", message = "scope.race: there is no function to run" }
  end
  local parent = begin "scope.race"
  local winner = contest(parent, bodies, choice_of(parent))
  if not winner.ok then
    if error_.is(winner.value, "cancelled") then parent.doomed, parent.due = nil, nil end
    error(winner.value, 0)
  end
  return winner.value, winner.index
end

---Runs a function, at most so long. Raises `timeout` when the time is over. A resumed run that had
---not come to a decision counts the time anew.
---@async
---@generic T
---@param seconds number
---@param body fun(): T
---@param what? string named in the error ("the function")
---@return T
function scope.within(seconds, body, what)
  local parent = begin "scope.within"
  local choice = choice_of(parent)
  local known = choice.made
  local winner = contest(parent, {
    body,
    function()
      -- A time that is over in the journal is not waited for again.
      timer.sleep(known == 2 and 0 or known == 1 and math.huge or seconds)
    end,
  }, choice)
  if winner.index == 2 and winner.ok then
    error_.raise {
      kind = "timeout",
      message = ("%s did not end within %g s"):format(what or "the function", seconds),
    }
  end
  if not winner.ok then
    if error_.is(winner.value, "cancelled") then parent.doomed, parent.due = nil, nil end
    error(winner.value, 0)
  end
  return winner.value
end

return scope
