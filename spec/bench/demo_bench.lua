---How long the main job takes when both images are baked already.
---Run as root, after the demo: `build/release/kiln lua spec/bench/demo_bench.lua [TIMES]`
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"

local exe = assert(fs.realpath("/proc/self/exe"))
local times, seconds = tonumber(arg[1]) or 3, {}

for index = 1, times do
  local started = timer.now()
  local done = assert(proc.run { argv = { exe, "run", "examples/app/demo.lua" }, timeout = 600 })
  seconds[index] = timer.now() - started
  if done.code ~= 0 then error(done.out .. done.err) end
  if done.err:find("baked", 1, true) then error("it baked: run the demo once before") end
  print(("run %d: %.2f s, %s"):format(index, seconds[index],
    done.out:match("(%d+ requests in [^\n]* failed)") or "?"))
end
table.sort(seconds)
print(("the main job again, both images baked: median %.2f s (target 15 s)")
  :format(seconds[(times + 1) // 2]))
