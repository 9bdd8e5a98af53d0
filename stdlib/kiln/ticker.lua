---Waiting for many things by one look a tick: everybody who waits for something in the same list
---shares one request for it, however many they are.
---
---The times at which somebody looks lie on a common grid. Each waits by its own expectation: rarely
---at first, often around the time when the thing usually happens, ever more rarely when it is late.
local task = require "rt.task"
local timer = require "rt.timer"
local error_ = require "kiln.error"

local ticker = {}

---@class kiln.Ticker
---@field private fetch fun(): any
---@field private grid number
---@field private slower fun(): number
local Ticker = {}
Ticker.__index = Ticker

---Makes a ticker.
---@param fetch fun(): any looks at the world; may wait and raise
---@param opts? { grid: number?, slower: (fun(): number)? } seconds between looks at their densest
---  (0.5); seconds that a look must keep from the one before at least, asked before each one (0)
---@return kiln.Ticker
function ticker.new(fetch, opts)
  opts = opts or {}
  return setmetatable({
    fetch = fetch, grid = opts.grid or 0.5, slower = opts.slower or function() return 0 end,
    fetched = -math.huge, waiting = 0,
  }, Ticker)
end

---Seconds from the monotonic clock that waits are measured by.
---@return number
function ticker.now()
  return timer.now()
end

---Waits for a while, in a driver: not an operation, and not for recipes.
---@async
---@param seconds number
function ticker.pause(seconds)
  timer.sleep(seconds)
end

---The pause before the next look, after `age` seconds of waiting for what takes `expected`.
local function pause_after(age, expected, grid)
  local early = 0.6 * expected - age
  if early > 0 then return math.max(math.min(0.25 * expected, early), grid) end
  if age < 1.5 * expected then return grid end
  return math.min(math.max(grid, (age - expected) / 8), 10)
end

---Gives what a look that began at `since` or later has seen.
local function look(self, since)
  if self.fetched >= since then return self.view end
  if not self.flight then
    local began = timer.now()
    self.flight = task.spawn(function()
      local ok, view = xpcall(self.fetch, error_.from)
      self.flight = nil
      if not ok then error(view, 0) end
      self.view, self.fetched = view, began
      return view
    end)
  end
  local flight = self.flight
  self.waiting = self.waiting + 1
  local _ <close> = setmetatable({}, { __close = function()
    self.waiting = self.waiting - 1
    if self.waiting > 0 or self.flight ~= flight then return end
    flight:cancel() -- nobody waits any more
    flight:join()
  end })
  local ok, view = flight:join()
  if not ok then error(view, 0) end
  return view
end

---Waits until `seen` finds something in what a look shows, and gives that.
---Raises `timeout`, and what `seen` and the look raise.
---@async
---@generic T
---@param spec { what: string, seen: (fun(view: any): T?), expected: number?, within: number? }
---  named in the error; usual seconds (1) and the most (60)
---@return T
function Ticker:wait(spec)
  local started = timer.now()
  local expected, within = spec.expected or 1, spec.within or 60
  local due = started + math.min(0.25 * expected, 2)
  while true do
    due = math.max(due, self.fetched + self.slower())
    due = math.ceil(due / self.grid) * self.grid
    timer.sleep(math.max(due - timer.now(), 0))
    local found = spec.seen(look(self, due))
    if found ~= nil then return found end
    local age = timer.now() - started
    if age >= within then
      error_.raise { kind = "timeout",
        message = ("%s: not within %g s"):format(spec.what, within) }
    end
    due = timer.now() + pause_after(age, expected, self.grid)
  end
end

return ticker
