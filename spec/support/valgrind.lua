---The C tests, and the specs of what talks to the world, under valgrind's memcheck: target
---`valgrind` of a build without sanitizers. Some: `kiln lua spec/support/valgrind.lua SPEC…`.
local fs = require "rt.fs"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"

local AT_ONCE = 2
local LONGEST = 1800 -- seconds for one of them
local build = proc.info().exe:match("^(.*)/")
local specs = {
  "spec/runtime/exec", "spec/runtime/ssh*", "spec/runtime/transfer*", "spec/runtime/http*",
  "spec/runtime/tcp", "spec/stdlib/ssh", "spec/stdlib/ssh/*", "spec/stdlib/http*",
  "spec/stdlib/machine_forward",
}

---Of the programs that kiln starts, only kiln's own matter; these would be slow. And who is killed
---on purpose has no summary.
local options = {
  "--leak-check=full", "--track-fds=yes", "--num-callers=30", "--child-silent-after-fork=yes",
  "--suppressions=spec/support/valgrind.supp", "--trace-children=yes",
  "--trace-children-skip=/usr/*,/bin/*,/sbin/*,*/python3,*_proxy,*/tcp_server,*/pty",
  "--trace-children-skip-by-arg=*/killed.lua",
}

---@class spec.ValgrindCase
---@field name string
---@field argv string[]

---Without the tests of how long a turn of the loop takes: here, thirty times as long. And without
---the one that leaves libcurl's thread in glibc's look-up of a name, which nothing can end.
---@return spec.ValgrindCase[]
local function cases()
  local list = {}
  for _, path in ipairs(#arg == 0 and assert(fs.glob(build .. "/*_test")) or {}) do
    list[#list + 1] = { name = path:match("[^/]+$"), argv = { path } }
  end
  for _, pattern in ipairs(#arg > 0 and arg or specs) do
    for _, path in ipairs(assert(fs.glob((pattern:gsub("_spec%.lua$", "") .. "_spec.lua")))) do
      list[#list + 1] = { name = path,
        argv = { build .. "/kiln", "lua", "spec/support/busted.lua", path,
          "--filter-out=holds the loop no longer", "--filter-out=holds the loop for long",
          "--filter-out=while a name is looked up" } }
    end
  end
  return list
end

---Counts what valgrind says of one process: errors, blocks lost, descriptors left open.
local function judge(text)
  local found = { errors = 0, leaks = 0, descriptors = 0 }
  if not text:find("Command: " .. build .. "/", 1, true) then return found end
  local errors = text:match "ERROR SUMMARY: ([%d,]+) errors"
  if not errors then return { errors = 1, leaks = 0, descriptors = 0 } end -- it was killed
  for _ in text:gmatch "blocks are %a+ lost in loss record" do found.leaks = found.leaks + 1 end
  found.errors = math.tointeger((errors:gsub(",", ""))) - found.leaks -- each is one
  for origin in text:gmatch "Open [^\n]-%f[%w]%d+:[^\n]*\n==%d+== +([^\n]+)" do
    if origin ~= "<inherited from parent>" then found.descriptors = found.descriptors + 1 end
  end
  return found
end

local sum = { errors = 0, leaks = 0, descriptors = 0, failed = 0 }

local function run(case, log)
  local started = timer.now()
  local argv = { "setpriv", "--pdeathsig", "KILL", "valgrind", "--log-file=" .. log .. "%p" }
  table.move(options, 1, #options, #argv + 1, argv)
  table.move(case.argv, 1, #case.argv, #argv + 1, argv)
  local done = assert(proc.run { argv = argv, timeout = LONGEST })
  local said = { ("%-45s %4.0f s"):format(case.name, timer.now() - started) }
  if done.code ~= 0 then
    sum.failed = sum.failed + 1
    said[#said + 1] = done.out .. done.err
  end
  for _, path in ipairs(assert(fs.glob(log .. "*"))) do
    local text, bad = assert(fs.read(path)), false
    for what, count in pairs(judge(text)) do
      sum[what] = sum[what] + count
      bad = bad or count > 0
    end
    if bad then said[#said + 1] = text end
  end
  print(table.concat(said, "\n"))
  io.flush()
end

local function main()
  if not proc.run { argv = { "valgrind", "--version" } } then
    print "valgrind: NOT RUN: the Debian package valgrind is missing; apt-get install valgrind"
    return 0
  end
  local list, folder, next_case, workers = cases(), build .. "/valgrind", 0, {}
  if fs.stat(folder) then assert(fs.remove(folder, { recursive = true })) end
  assert(fs.mkdir(folder))
  for worker = 1, AT_ONCE do
    workers[worker] = task.spawn(function()
      while next_case < #list do
        next_case = next_case + 1
        local index = next_case
        run(list[index], ("%s/%d."):format(folder, index))
      end
    end)
  end
  for _, worker in ipairs(workers) do
    local ok, err = worker:join()
    if not ok then error(err.message or err, 0) end
  end
  assert(fs.remove(folder, { recursive = true }))
  local c_tests = 0
  for _, case in ipairs(list) do c_tests = c_tests + (#case.argv == 1 and 1 or 0) end
  print(("valgrind: %d C tests, %d spec files: %d failed, %d errors, %d leaks, %d descriptors left")
    :format(c_tests, #list - c_tests, sum.failed, sum.errors, sum.leaks, sum.descriptors))
  return sum.failed + sum.errors + sum.leaks + sum.descriptors == 0 and 0 or 1
end

os.exit(main())
