---How fast kiln starts and how much memory that takes, beside the tools it replaces.
---Run: `build/release/kiln lua spec/bench/start_bench.lua`
local lfs = require "lfs"

local build = lfs.symlinkattributes("/proc/self/exe", "target"):match("^(.*)/")
local times = tonumber(arg[1]) or 21

local function shell(command)
  local pipe = assert(io.popen(command))
  local out = pipe:read("a")
  return pipe:close() and out or nil
end

local function installed(program)
  return shell("command -v " .. program .. " 2>/dev/null") ~= nil
end

local function measure(command)
  local out = shell(("'%s/measure' %d %s"):format(build, times, command))
  if not out then return nil end
  local seconds, bytes = out:match("(%S+) (%S+)")
  return tonumber(seconds), tonumber(bytes)
end

-- The interpreter itself: `python3` on the PATH may be a wrapper of a version manager.
local python = installed "python3"
  and shell("python3 -c 'import sys; print(sys.executable)'"):match("%S+")

-- The same recipe with its state in memory: what is left is not the disk's time.
local memory = shell("mktemp -d -p /dev/shm kiln-bench.XXXXXX"):match("%S+")
assert(shell(("cp spec/bench/hello.lua '%s/'"):format(memory)))

local rows = {
  { "kiln version", ("'%s/kiln' version"):format(build), own = true },
  { "kiln run hello.lua", ("'%s/kiln' run spec/bench/hello.lua"):format(build), own = true },
  { "  state in memory", ("'%s/kiln' run '%s/hello.lua'"):format(build, memory), own = true },
  { "python3 -c pass", (python or "python3") .. " -c pass", needs = "python3" },
  { "terraform version", "env CHECKPOINT_DISABLE=1 terraform version", needs = "terraform" },
  { "packer version", "env CHECKPOINT_DISABLE=1 packer version", needs = "packer" },
  { "ansible --version", "ansible --version", needs = "ansible" },
}

local base
print(("%-22s %10s %8s %12s %8s"):format("", "median", "ratio", "peak memory", "ratio"))
for _, row in ipairs(rows) do
  if row.needs and not installed(row.needs) then
    print(("%-22s not installed"):format(row[1]))
  else
    local seconds, bytes = measure(row[2])
    if not seconds then
      print(("%-22s FAILED"):format(row[1]))
    else
      base = base or { seconds, bytes }
      print(("%-22s %7.1f ms %7.1fx %9.1f MB %7.1fx"):format(row[1], seconds * 1e3,
        seconds / base[1], bytes / 1e6, bytes / base[2]))
    end
  end
end
shell(("rm -r '%s'"):format(memory))
print(("median of %d starts; targets for kiln: at most 10 ms, 15 MB"):format(times))
