---Runs each spec file in a process of its own, as many at once as there are processors:
---`kiln lua spec/support/busted_files.lua [JOBS]`. Prints a line a file, and what a file that
---failed or left something out had to say.
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"
local scope = require "kiln.scope"

local kiln = assert(fs.realpath "/proc/self/exe")
-- Those that wait for real machines first, so that they do not wait alone at the end.
local folders = { "users", "attack", "matrix", "examples", "providers" }

local function files()
  local list, seen = {}, {}
  local function take(pattern)
    for _, file in ipairs(assert(fs.glob(pattern))) do
      if not seen[file] then
        seen[file] = true
        table.insert(list, file)
      end
    end
  end
  for _, folder in ipairs(folders) do take("spec/" .. folder .. "/*_spec.lua") end
  for _, pattern in ipairs { "spec/*_spec.lua", "spec/*/*_spec.lua", "spec/*/*/*_spec.lua" } do
    take(pattern)
  end
  return list
end

local kinds = { "success", "failure", "error", "pending" }
local totals, failed = { 0, 0, 0, 0 }, {}

---Takes a file's counts into the totals; whether they are whole and clean.
local function counted(out)
  local clean = true
  for index, kind in ipairs(kinds) do
    local count = tonumber(out:match("(%d+) " .. kind))
    if not count then return false, false end
    totals[index] = totals[index] + count
    if index > 1 and count > 0 then clean = false end
  end
  return true, clean
end

local function run(file)
  local started = timer.now()
  -- No file takes half of this.
  local argv = { kiln, "lua", "spec/support/busted.lua", file }
  local done, err = proc.run { timeout = 900, argv = argv }
  local out = done and done.out .. done.err or err.message
  local whole, clean = counted(out)
  local ok = whole and done.code == 0
  if not ok then table.insert(failed, file) end
  print(("%-6s %7.1f s  %s"):format(ok and "ok" or "FAILED", timer.now() - started, file))
  if not (ok and clean) then print(out) end
  io.stdout:flush()
end

local jobs = tonumber(arg[1]) or tonumber(assert(proc.run { argv = { "nproc" } }).out)
local started = timer.now()
scope.all(files(), run, { at_once = math.tointeger(jobs) })
print(("%d successes, %d failures, %d errors, %d pending in %.0f s"):format(totals[1], totals[2],
  totals[3], totals[4], timer.now() - started))
for _, file in ipairs(failed) do print("FAILED " .. file) end
os.exit(#failed == 0 and 0 or 1, true)
