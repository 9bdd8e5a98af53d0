---Rate limits: 5,000 requests in any hour, 250 in any minute, 10 lists of keys in a minute.
---
---https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit
local rate = {}

---@class kiln.do.sim.Rate
local Rate = {}
Rate.__index = Rate

---Makes a counter.
---@param limits table<string, number> hour, minute, keys_minute
---@return kiln.do.sim.Rate
function rate.new(limits)
  return setmetatable({ limits = limits, times = {}, first = 1, last = 0, windows = {} }, Rate)
end

local function forget_before(self, moment)
  while self.first <= self.last and self.times[self.first] <= moment do
    self.times[self.first] = nil
    self.first = self.first + 1
  end
end

---Counts entries after a moment, from the newest back.
local function count_since(self, moment)
  local count, index = 0, self.last
  while index >= self.first and self.times[index] > moment do
    count, index = count + 1, index - 1
  end
  return count, self.times[index + 1]
end

---Tells whether a counted window of its own is full, and counts the request if it is not.
---@param now number
---@param name string "keys"
---@param most number
---@param seconds number length of the window
---@return boolean full
function Rate:window(now, name, most, seconds)
  local kept = {}
  for _, at in ipairs(self.windows[name] or {}) do
    if at > now - seconds then kept[#kept + 1] = at end
  end
  self.windows[name] = kept
  if #kept >= most then return true end
  kept[#kept + 1] = now
  return false
end

---Counts a request. Gives the headers that every answer carries, and for a request that is one too
---many the seconds after which to come again.
---@param now number
---@return table<string, string> headers
---@return boolean full
function Rate:count(now)
  forget_before(self, now - 3600)
  local in_minute, oldest = count_since(self, now - 60)
  local full = self.last - self.first + 1 >= self.limits.hour
  local burst = in_minute >= self.limits.minute
  if not full and not burst then
    self.last = self.last + 1
    self.times[self.last] = now
  end
  local headers = {
    ["ratelimit-limit"] = ("%d"):format(self.limits.hour),
    ["ratelimit-remaining"] = ("%d"):format(self.limits.hour - (self.last - self.first + 1)),
    ["ratelimit-reset"] = ("%d"):format(((self.times[self.first] or now) + 3600) // 1 | 0),
  }
  if burst and not full then
    headers["retry-after"] = ("%d"):format(math.max(1, math.ceil(oldest + 60 - now)))
  end
  return headers, full or burst
end

return rate
