---The leak guard: after each test no operation, no loop handle, no task and no descriptor more than
---before it.
local busted = require "busted"
local lfs = require "lfs"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"

proc.run { argv = { "true" } } -- libuv opens a descriptor of its own with the first stream

local function snapshot()
  timer.sleep(0) -- handles close on a turn of the loop
  collectgarbage()
  collectgarbage()
  local live = task.live()
  local fds = 0
  for name in lfs.dir("/proc/self/fd") do
    if name:match("^%d+$") then fds = fds + 1 end
  end
  return { ops = live.ops, tasks = live.tasks, handles = live.handles, descriptors = fds }
end

local before

busted.subscribe({ "test", "start" }, function()
  before = snapshot()
  return nil, true
end)

---Whether nothing is left of the test.
local function clean(after)
  for what, count in pairs(after) do
    if count > before[what] then return false end
  end
  return true
end

busted.subscribe({ "test", "end" }, function(element, _, status)
  local after = snapshot()
  for _ = 1, 500 do -- a thread that was given up closes its file when its call returns
    if status ~= "success" or clean(after) then break end
    timer.sleep(0.01)
    after = snapshot()
  end
  for what, count in pairs(after) do
    if count > before[what] and status == "success" then
      busted.publish({ "error", "it" }, element, nil,
        ("leak: %d %s alive before the test, %d after it"):format(before[what], what, count), {})
    end
  end
  return nil, true
end)
