---How far a transfer is: its rate over the last seconds and the time that is left.
local task = require "rt.task"
local timer = require "rt.timer"
local transfer = require "rt.transfer"
local error_ = require "kiln.error"

local progress = {}

local every = 1  -- seconds between two calls
local window = 5 -- calls that the rate is taken over

---@class kiln.ssh.Progress
---@field bytes integer of files, that went so far
---@field total? integer nil while it is not known: at the start of a download
---@field rate number bytes a second, of the last five seconds
---@field left? number seconds to the end at that rate; nil when it stands still or has no total

---Gives what to tell now, and remembers it for the rate.
local function look(self)
  local bytes, total = self.read()
  local seen = self.seen
  seen[#seen + 1] = { at = timer.now(), bytes = bytes }
  if #seen > window + 1 then table.remove(seen, 1) end
  local first, last = seen[1], seen[#seen]
  local rate = last.at > first.at and (last.bytes - first.bytes) / (last.at - first.at) or 0
  local left
  if total and (rate > 0 or bytes >= total) then
    left = bytes < total and (total - bytes) / rate or 0
  end
  return { bytes = bytes, total = total, rate = rate, left = left }
end

local function size(bytes)
  if bytes >= 9.95e9 then return ("%.0f GB"):format(bytes / 1e9) end
  if bytes >= 1e9 then return ("%.1f GB"):format(bytes / 1e9) end
  return bytes >= 1e6 and ("%.0f MB"):format(bytes / 1e6) or ("%.0f KB"):format(bytes / 1e3)
end

---Says how far it is: "120 MB of 500 MB, 84 MB/s, 5 s left".
---@param state kiln.ssh.Progress
---@return string
function progress.text(state)
  local text = size(state.bytes)
  if state.total then text = text .. " of " .. size(state.total) end
  if state.rate > 0 then text = text .. ", " .. size(state.rate) .. "/s" end
  local left = state.left
  if not left or left <= 0 then return text end
  if left < 90 then return ("%s, %d s left"):format(text, math.ceil(left)) end
  return left < 5400 and ("%s, %.0f min left"):format(text, left / 60)
    or ("%s, %.1f h left"):format(text, left / 3600)
end

---Puts several together.
---@param states kiln.ssh.Progress[]
---@return kiln.ssh.Progress
function progress.sum(states)
  local all = { bytes = 0, total = 0, rate = 0 }
  for _, state in ipairs(states) do
    all.bytes, all.rate = all.bytes + state.bytes, all.rate + state.rate
    all.total = all.total and state.total and all.total + state.total or nil
  end
  if all.total and all.rate > 0 then all.left = (all.total - all.bytes) / all.rate end
  return all
end

---Makes a source of what to tell.
---@param read fun(): integer, integer? bytes so far, and of how many
---@return fun(): kiln.ssh.Progress
function progress.meter(read)
  local self = { read = read, seen = { { at = timer.now(), bytes = 0 } } }
  return function() return look(self) end
end

---Moves something, and tells every second and at its end how far it is. What `tell` raises ends the
---transfer.
---@async
---@param tell? fun(state: kiln.ssh.Progress)
---@param move fun(watched: rt.transfer.Progress?): table?, table?
---@return table? result
---@return table? err
function progress.during(tell, move)
  if not tell then return move() end
  local watched <close> = transfer.progress()
  local meter = progress.meter(function() return watched:read() end)
  local mover = task.spawn(function() return move(watched) end)
  local teller = task.spawn(function()
    while true do
      timer.sleep(every)
      local ok, err = xpcall(tell, error_.from, meter())
      if not ok then
        mover:cancel()
        error(err, 0)
      end
    end
  end)
  local _ <close> = setmetatable({}, { __close = function()
    for _, child in ipairs { mover, teller } do
      child:cancel()
      child:join()
    end
  end })
  local ok, done, err = mover:join()
  teller:cancel()
  local _, told = teller:join()
  if told.kind ~= "cancelled" then error(told, 0) end
  if not ok then error(error_.from(done), 0) end
  if done then tell(meter()) end
  return done, err
end

return progress
