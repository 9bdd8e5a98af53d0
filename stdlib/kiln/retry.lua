---Tries again: what fails for a reason that passes, with growing pauses, until a deadline.
local timer = require "rt.timer"
local error_ = require "kiln.error"
local trace = require "kiln.trace"

local retry = {}

---@class kiln.RetryOptions
---@field kinds? string[] kinds of errors that are tried again ({ "unreachable", "timeout" })
---@field within? number seconds until it gives up (60)
---@field attempts? integer how often at most (no limit)
---@field pause? number seconds before the second attempt (0.2)
---@field factor? number each pause is so much longer than the one before (2)
---@field longest? number seconds that no pause exceeds (5)
---@field after? fun(err: kiln.Error, attempt: integer, pause: number) called before every pause
---@field what? string named when it gives up: "create droplet app-1"

local known = {
  kinds = true, within = true, attempts = true, pause = true, factor = true, longest = true,
  after = true, what = true,
}

local function check_options(opts)
  for key in pairs(opts) do
    if not known[key] then
      error_.raise { kind = "usage", message = ("retry: unknown option '%s'"):format(key) }
    end
  end
end

local function give_up(opts, err, attempt, started)
  err.attempts = attempt
  if attempt > 1 then
    err.message = ("%s%s (%d attempts in %.1f s)"):format(opts.what and opts.what .. ": " or "",
      err.message, attempt, timer.now() - started)
  elseif opts.what then
    err.message = opts.what .. ": " .. err.message
  end
  error(err, 0)
end

---Calls a function until it succeeds. An error of another kind is raised at once; when the time or
---the attempts are over, the last error is raised, with `attempts`. An error that names its own
---pause (`retry_after`, seconds, as RFC 9110 section 10.2.3 has it) is given at least that.
---@async
---@generic T
---@param body fun(attempt: integer, left: number): T gets the attempt's number from 1 on, and how
---  many seconds are left
---@param opts? kiln.RetryOptions
---@return T
function retry.call(body, opts)
  opts = opts or {}
  check_options(opts)
  local kinds = opts.kinds or { "unreachable", "timeout" }
  local started = timer.now()
  local deadline = started + (opts.within or 60)
  local pause, attempt = opts.pause or 0.2, 0
  while true do
    attempt = attempt + 1
    local ok, result = xpcall(body, trace.handler, attempt, math.max(deadline - timer.now(), 0))
    if ok then return result end
    local wait = math.max(pause, tonumber(result.retry_after) or 0)
    if not error_.is(result, table.unpack(kinds)) or attempt == opts.attempts
      or timer.now() + wait >= deadline then
      give_up(opts, result, attempt, started)
    end
    if opts.after then opts.after(result, attempt, wait) end
    timer.sleep(wait)
    pause = math.min(pause * (opts.factor or 2), opts.longest or 5)
  end
end

return retry
