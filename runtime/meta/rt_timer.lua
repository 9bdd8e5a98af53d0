---@meta rt.timer

---Waits without blocking the loop, and the two clocks.
local timer = {}

---Waits.
---@async
---@param seconds number 0 or more; 0 lets every ready task run first
function timer.sleep(seconds) end

---Tells the monotonic clock, for durations.
---@return number seconds
function timer.now() end

---Tells the time of day.
---@return number seconds since 1970-01-01 00:00:00 UTC, with a fraction
function timer.time() end

return timer
