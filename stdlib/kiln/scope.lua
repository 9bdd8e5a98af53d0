---Concurrency that cannot leak: tasks end before the block that started them does.
---
---Every task has a path made of its place in its parent ("/2/1"), so paths do not depend on timing.
local task = require "rt.task"
local timer = require "rt.timer"
local error_ = require "kiln.error"

local scope = {}

---The scope's own record of a task, inherited by its children: path, run, step.
---@class kiln.TaskState
---@field path string "/" for the first task
---@field children integer children started so far
---@field run? table the run this task belongs to
---@field step? table the innermost display group
---@field cleanup? boolean what runs removes what a failure or a finished block leaves
---@field operation? table the operation whose `perform` runs; calls inside it are part of it

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
  }
end

local function start(parent, body, ...)
  local state = child_state(parent)
  return task.spawn(function(...)
    task.locals().scope = state
    return body(...)
  end, ...)
end

---Joins every child; the first failure cancels the others. Returns the error that came first.
local function join_all(children, failures)
  for _, child in ipairs(children) do
    -- A cancel of ours wakes this join: pass it on and go on joining, nothing outlives the block.
    while true do
      local woken, cause = pcall(child.join, child)
      if woken then break end
      failures.first = failures.first or cause
      for _, other in ipairs(children) do other:cancel(cause) end
    end
  end
  return failures.first
end

local function run_all(bodies, at_once)
  local parent = scope.state()
  local results, failures, children = {}, {}, {}
  local next_body = 1

  local function guarded(index, body)
    local ok, value = xpcall(body, function(err)
      err = error_.from(err)
      err.traceback = err.traceback or debug.traceback("", 2)
      return err
    end)
    if ok then
      results[index] = value
      return
    end
    if not failures.first then
      failures.first = value
      for _, other in ipairs(children) do
        if other ~= task.current() then other:cancel() end
      end
    end
  end

  if not at_once or at_once >= #bodies then
    for index, body in ipairs(bodies) do
      children[index] = start(parent, guarded, index, body)
    end
  else
    -- Paths come from the place in the list, so workers take bodies but not their path.
    local states = {}
    for index = 1, #bodies do
      states[index] = child_state(parent)
    end
    for worker = 1, at_once do
      children[worker] = task.spawn(function()
        while next_body <= #bodies and not failures.first do
          local index = next_body
          next_body = next_body + 1
          task.locals().scope = states[index]
          guarded(index, bodies[index])
        end
      end)
    end
  end

  local err = join_all(children, failures)
  if err then error(err, 0) end
  return results
end

---Runs functions at the same time and returns their first results in order. The first error cancels
---the others, waits for them to end, and is raised.
---@async
---@param list any[] functions, or the arguments of `each`
---@param each? fun(item: any): any called with every item of the list
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
  return run_all(bodies, at_once)
end

---Runs functions at the same time; the first that ends decides, the others are cancelled and ended.
---@async
---@param bodies (fun(): any)[]
---@return any result of the first that ended
---@return integer index its place in the list
function scope.race(bodies)
  local parent = scope.state()
  local children, winner = {}, nil
  for index, body in ipairs(bodies) do
    children[index] = start(parent, function()
      local result = table.pack(xpcall(body, function(err)
        err = error_.from(err)
        err.traceback = err.traceback or debug.traceback("", 2)
        return err
      end))
      if winner then return end
      winner = { index = index, ok = result[1], value = result[2] }
      for _, other in ipairs(children) do
        if other ~= task.current() then other:cancel() end
      end
    end)
  end
  local err = join_all(children, {})
  if err then error(err, 0) end
  if not winner.ok then error(winner.value, 0) end
  return winner.value, winner.index
end

---Runs a function, at most so long. Raises `timeout` when the time is over.
---@async
---@generic T
---@param seconds number
---@param body fun(): T
---@param what? string named in the error ("the function")
---@return T
function scope.within(seconds, body, what)
  local value, index = scope.race {
    body,
    function() timer.sleep(seconds) end,
  }
  if index == 2 then
    error_.raise {
      kind = "timeout",
      message = ("%s did not end within %g s"):format(what or "the function", seconds),
    }
  end
  return value
end

return scope
