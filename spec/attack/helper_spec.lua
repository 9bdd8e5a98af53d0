---A machine's helper is killed in the middle of its work: what it had started ends with it.
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local site = require "spec.support.site"

describe("a helper that is killed", function()
  local missing = site.why_not()
  local s
  setup(function() if not missing then s = site.new() end end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  local function children(pid)
    return (fs.read(("/proc/%s/task/%s/children"):format(pid, pid)) or ""):gmatch("%d+")
  end

  ---The ids of a process's user namespace; nil: it has ended.
  local function ids(pid) return (fs.read(("/proc/%s/uid_map"):format(pid))) end

  ---The helper of this process.
  local function helper()
    for _, path in ipairs(assert(fs.glob "/proc/self/task/*/children")) do
      for pid in (fs.read(path) or ""):gmatch("%d+") do
        if (fs.read(("/proc/%s/cmdline"):format(pid)) or ""):find("%z__machine%z") then
          return pid
        end
      end
    end
  end

  ---Waits until the helper has a child in another user namespace than its own, then kills it.
  ---@return string? child
  local function kill_above_a_namespace()
    local own = ids "self"
    local pid = helper()
    while not pid do
      timer.sleep(0)
      pid = helper()
    end
    while ids(pid) do
      for child in children(pid) do
        local its = ids(child)
        if its and its ~= own then
          os.execute("kill -KILL " .. pid)
          return child
        end
      end
    end
  end

  ---The helper's processes that live, of this site, beside the router and the machines.
  local function left()
    return assert(proc.run { argv = { "sh", "-c", [[
      find /proc/[0-9]*/fd -lname "$1/*" 2>/dev/null | cut -d/ -f3 | sort -u | while read -r pid; do
        grep -qz __machine "/proc/$pid/cmdline" && ! grep -q "kiln-$2" "/proc/$pid/cgroup" &&
          echo "$pid $(cat "/proc/$pid/wchan")"
      done]], "sh", s.dir, s.tag } }).out
  end

  it("leaves none of the processes that it had in other user namespaces", function()
    if missing then return pending(missing) end
    assert(machine.network_up { dir = s.dir })
    local met = 0
    for number = 1, 4 do
      local name = "cut-" .. number
      local work = task.spawn(machine.create, s:options(name))
      if kill_above_a_namespace() then met = met + 1 end
      work:join()
      assert(machine.list { dir = s.dir }) -- removes what the creation left
      local deadline = timer.now() + 5
      while left() ~= "" and timer.now() < deadline do timer.sleep(0.1) end
      assert.equal("", left())
      assert(machine.destroy { dir = s.dir, name = name })
    end
    assert.is_true(met > 0, "no helper was killed in time")
  end)
end)
