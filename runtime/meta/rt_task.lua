---@meta rt.task

---Starts, joins and cancels tasks. Recipes use `kiln.scope`, which never loses one.
local task = {}

---@class rt.Task
local Task = {}

---Starts a task; it runs when the caller next waits.
---@param body fun(...): ...
---@param ... any the body's arguments
---@return rt.Task
function task.spawn(body, ...) end

---Tells the running task.
---@return rt.Task?
function task.current() end

---Gives the running task's own table.
---@return table
function task.locals() end

---Counts what is alive: unsettled or uncollected operations, unfinished tasks, loop handles.
---@return { ops: integer, tasks: integer, handles: integer }
function task.live() end

---Raises, naming `what`, where the running code may not wait: in a coroutine of its own, say.
---@param what string
function task.may_wait(what) end

---Reports whether the running code is being ended, because it went on computing after a signal.
---@return boolean
function task.spent() end

---Waits for the task to end; never raises its error. The error is a table with `traceback`.
---@async
---@return boolean ok
---@return any ... its results, or its error
function Task:join() end

---Wakes the task's wait with an error, once; a task that does not wait gets it at its next wait.
---@param err? table what the wait raises ({ kind = "cancelled" })
function Task:cancel(err) end

---Sets what ends the task, and those that it starts from now on, when it goes on computing after a
---signal.
---@param err? table what is raised, again and again, in its functions that are not kiln's own; nil:
---  nothing
function Task:stop_with(err) end

return task
