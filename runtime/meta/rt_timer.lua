---@meta rt.timer

---Waits without blocking the loop, and the two clocks.
local timer = {}

---Waits.
---@async
---@param seconds number 0 or more; 0 lets every ready task run first
function timer.sleep(seconds) end

---Makes time virtual: when nothing is under way but sleeps, the clock jumps to the first that is
---due, so hours pass in milliseconds; `now` and `time` only move with it. What really happens (a
---command, a request over the network) takes no virtual time, and no sleep ends meanwhile. Waiting
---for the next request to a server of one's own, for a signal or for a task is not under way.
---Raises when time is virtual already.
---@param start? number time of day at which it begins, seconds since 1970 (now)
function timer.virtual(start) end

---Makes time real again; every task that sleeps in virtual time is woken. Fine in real time.
function timer.real() end

---Tells the monotonic clock, for durations.
---@return number seconds
function timer.now() end

---Tells the time of day.
---@return number seconds since 1970-01-01 00:00:00 UTC, with a fraction
function timer.time() end

---Measures how long the loop is held at a time. Close it: `local meter <close> = timer.meter()`.
---@class rt.timer.Meter
local Meter = {}

---Starts to measure.
---@return rt.timer.Meter
function timer.meter() end

---Gives the longest turn of the loop so far: what ran between two looks at the world.
---@return number seconds of CPU time of this thread
---@return integer turns
function Meter:longest() end

---Stops measuring. May run twice.
function Meter:close() end

return timer
