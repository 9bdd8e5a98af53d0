---The time of day for recipes: read as an operation, so a resumed run sees what the first one saw.
local timer = require "rt.timer"
local op = require "kiln.op"

local clock = {}

---Tells the time.
---@async
---@return number seconds since 1970-01-01 00:00:00 UTC, with a fraction
function clock.now()
  return op.call {
    name = "time", class = "read", quiet = true, perform = function() return timer.time() end,
  }
end

---Runs a function and tells how long that took; an interruption in between counts.
---@async
---@generic T
---@param body fun(): T
---@return number seconds
---@return T result
function clock.measure(body)
  local started = clock.now()
  local result = body()
  return clock.now() - started, result
end

return clock
