---What the journal costs: operations beside plain inserts, replay; how time, memory and the file
---grow with the number of operations and of tasks.
---Run: `build/release/kiln lua spec/bench/journal_bench.lua`
local fs = require "rt.fs"
local journal = require "rt.journal"
local proc = require "rt.proc"
local timer = require "rt.timer"

local build = fs.realpath("/proc/self/exe"):match("^(.*)/")
local dir = assert(fs.realpath(".")) .. "/.bench-journal" -- the disk of the tree, not a tmpfs

local recipe = [[
local op = require "kiln.op"
local scope = require "kiln.scope"
local app = { name = "bench", args = {
  ops = { "operations", default = 1 }, tasks = { "tasks", default = 1 } } }

local function work(count)
  for index = 1, count do
    op.call { name = "operation", class = "read", args = { index = index }, quiet = true,
      perform = function() return { code = 0, out = "what a command printed, a line of it" } end }
  end
end

function app.deploy(run, args)
  if args.tasks == 1 then
    work(args.ops)
  else
    local list = {}
    for index = 1, args.tasks do list[index] = index end
    scope.all(list, function() work(args.ops) end)
  end
  run.stopping = true -- so that resume has all of it to replay
  op.call { name = "the end", class = "read", perform = function() end }
end

return app
]]

---Runs kiln in the bench's folder; returns seconds, peak bytes and processor seconds.
local function measure(command)
  local done = assert(proc.run { cwd = dir, timeout = 600, argv = { build .. "/measure", "1", "sh",
    "-c", build .. "/kiln " .. command .. "; test $? = 4" } })
  local seconds, bytes, processor = done.out:match("(%S+) (%S+) (%S+)")
  if not seconds then error(done.err) end
  return tonumber(seconds), tonumber(bytes), tonumber(processor)
end

local function state_bytes()
  local total = 0
  for _, name in ipairs { "state.db", "state.db-wal" } do
    local stat = fs.stat(dir .. "/.kiln/" .. name)
    total = total + (stat and stat.size or 0)
  end
  return total
end

local function fresh()
  fs.remove(dir, { recursive = true })
  assert(fs.mkdir(dir))
  assert(fs.write(dir .. "/bench.lua", recipe))
end

---Inserts a second in transactions of their own, as large as an operation's row.
local function floor(count)
  fresh()
  local db = assert(journal.open(dir .. "/floor.db"))
  assert(db:exec("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)"))
  local text, started = ("x"):rep(120), timer.now()
  for index = 1, count do
    assert(db:exec("INSERT INTO t VALUES (?1, ?2, ?3)", { index, text, timer.time() }))
  end
  local rate = count / (timer.now() - started)
  db:close()
  return rate
end

local start, start_processor
local function ran(ops, tasks)
  fresh()
  local command = ("run bench.lua --ops %d --tasks %d"):format(ops, tasks)
  local seconds, bytes, processor = measure(command)
  return seconds - start, bytes, state_bytes(), processor - start_processor
end

local function rounds(count, body)
  local values = {}
  for index = 1, count do values[index] = body() end
  table.sort(values)
  return values[(count + 1) // 2]
end

fresh()
start = rounds(5, function() return (measure "run bench.lua --ops 0") end)
start_processor = rounds(5, function()
  return (select(3, measure "run bench.lua --ops 0"))
end)

-- Floor and operations by turns: the disk is everybody's.
local floors, rates = {}, {}
for index = 1, 5 do
  floors[index] = floor(2000)
  rates[index] = 2000 / ran(2000, 1)
end
table.sort(floors)
table.sort(rates)
print("median of 5 rounds, by turns                    per second    ratio")
print(("%-44s %13.0f %8s"):format("plain inserts, synchronous=FULL", floors[3], "1.00x"))
print(("%-44s %13.0f %7.2fx"):format("operations (an intent and an outcome each)", rates[3],
  rates[3] / floors[3]))
print(("%-44s %13.0f %7.2fx"):format("their durable transactions", 2 * rates[3],
  2 * rates[3] / floors[3]))

print "\n   ops  tasks   seconds  ms an op  of it processor  peak memory  state file  bytes an op"
local seen = {}
for _, size in ipairs { { 1000, 1 }, { 2500, 1 }, { 5000, 1 }, { 10000, 1 },
  { 2, 250 }, { 2, 500 }, { 2, 1000 }, { 2, 2000 } } do
  local ops, tasks = size[1], size[2]
  local all = ops * tasks
  local seconds, memory, state, processor = ran(ops, tasks)
  print(("%6d %6d %9.2f %9.2f %16.2f %9.1f MB %8.2f MB %12.0f"):format(all, tasks, seconds,
    seconds * 1e3 / all, processor * 1e3 / all, memory / 1e6, state / 1e6, state / all))
  seen[ops .. " " .. tasks] = { seconds / all, processor / all, state / all, memory }
  if ops == 10000 then
    local id = assert(proc.run { cwd = dir, argv = { build .. "/kiln", "runs", "--json" } }).out
      :match('"id":"(%x+)"')
    local replays = {}
    for index = 1, 5 do
      local took, peak, computed = measure("resume " .. id)
      replays[index] = { took - start, peak, computed - start_processor }
    end
    table.sort(replays, function(a, b) return a[1] < b[1] end)
    print(("       replayed by resume: %.2f s (target 1 s), %.2f s of it processor, %.1f MB; the "
      .. "median of 5"):format(replays[3][1], replays[3][3], replays[3][2] / 1e6))
  end
end

print "\nlarge against small           time an op  processor an op  bytes an op  peak memory"
for _, pair in ipairs { { "10,000 operations / 1,000", "10000 1", "1000 1" },
  { "2,000 tasks / 250", "2 2000", "2 250" } } do
  local large, small = seen[pair[2]], seen[pair[3]]
  print(("%-26s %12.2fx %15.2fx %11.2fx %11.2fx"):format(pair[1], large[1] / small[1],
    large[2] / small[2], large[3] / small[3], large[4] / small[4]))
end
fs.remove(dir, { recursive = true })
