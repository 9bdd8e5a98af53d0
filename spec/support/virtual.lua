---Virtual time for the length of a block: `local time <close> = virtual()`.
local timer = require "rt.timer"

---Begins virtual time.
---@param start? number seconds since 1970
---@return table time real time comes back when it is closed
return function(start)
  timer.virtual(start)
  return setmetatable({}, { __close = function() timer.real() end })
end
