---Lets memory end at one allocation after the other: of Lua, and of kiln's own C. The whole of it:
---`cmake --build --preset dev --target faults-memory`; one in many: `kiln lua
---spec/support/memory_faults.lua STEP`.
local fs = require "rt.fs"
local proc = require "rt.proc"

local memory = {}

local exe = assert(fs.realpath("/proc/self/exe"))

---Runs the recipe of `spec/starve/app.lua` again and again; memory ends for good at allocation 1,
---1 + step, … of it. Raises what starve complained of: a crash, a leak, a descriptor left open, an
---error without a word of memory, a run that hangs.
---@param step integer
---@return string line what starve counted
function memory.run(step)
  local dir = assert(fs.temp_dir())
  assert(fs.write(dir .. "/app.lua", assert(fs.read("spec/starve/app.lua"))))
  local done, err = proc.run {
    argv = { exe:match("^(.*)/") .. "/starve", "1", tostring(step), dir, "run", dir .. "/app.lua" },
    timeout = 7200,
  }
  assert(fs.remove(dir, { recursive = true }))
  if not done then error(err.message, 0) end
  if done.code ~= 0 then error(done.out .. done.err, 0) end
  return (done.out:gsub("%s+$", ""))
end

if arg and arg[0] and arg[0]:find("memory_faults.lua", 1, true) then
  print(memory.run(math.tointeger(tonumber(arg[1])) or 1))
end

return memory
