---What is said about a lock that somebody else has.
local timer = require "rt.timer"

local locked = {}

local function age(seconds)
  if seconds < 90 then return ("%d s"):format(seconds // 1) end
  if seconds < 5400 then return ("%d min"):format(seconds // 60) end
  return ("%.1f h"):format(seconds / 3600)
end

---Says who works on a service: the run, its process, since when, at what.
---@param run { env: string, service: string }
---@param holder table the lease's row, see `Store:lease_take`
---@return string
function locked.message(run, holder)
  local where = run.env == "default" and run.service or run.service .. " (" .. run.env .. ")"
  return ("run %s works on %s: process %d of %s@%s, for %s%s"):format(holder.run:sub(1, 4), where,
    holder.pid, holder.user or "?", holder.host, age(math.max(timer.time() - holder.since, 0)),
    holder.doing and (", now at '%s'"):format(holder.doing) or "")
end

return locked
