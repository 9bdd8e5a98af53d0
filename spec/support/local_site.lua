---Sites of local machines for specs: each run has its own, named by its process, and the next run
---removes what a killed one left. The base's archive is shared with the host's own site.
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"

local local_site = {
  archives = proc.getenv "KILN_LOCAL_BASE" or "/var/lib/kiln/base",
}

local start = "/var/lib/kiln-spec-"

---Ends everything in a site and removes it.
---@async
---@param dir string
function local_site.remove(dir)
  for _, name in ipairs(fs.list(dir .. "/machines") or {}) do -- half made ones too
    assert(machine.destroy { dir = dir, name = name })
  end
  assert(machine.network_down { dir = dir })
  assert(fs.remove(dir, { recursive = true }))
end

---Removes the sites of runs that have ended without doing so.
---@async
function local_site.sweep()
  for _, dir in ipairs(fs.glob(start .. "*") or {}) do
    local pid, since = dir:match("%-(%d+)%-(%d+)%-%w+$")
    if pid and not proc.alive(math.tointeger(tonumber(pid)), math.tointeger(tonumber(since))) then
      local_site.remove(dir)
    end
  end
end

---Makes a folder for a site.
---@async
---@param name string letters and digits
---@return string dir
function local_site.make(name)
  local_site.sweep()
  local info = proc.info()
  local dir = ("%s%d-%d-%s"):format(start, info.pid, info.start_time, name)
  assert(fs.mkdir(dir, { mode = "0755" }))
  return dir
end

---Tells why local machines cannot run here; nil when they can.
---@async
---@return string? reason
function local_site.lacking()
  if proc.info().uid ~= 0 then return "needs root" end
  local dir = local_site.make "check"
  local rows, err = machine.check { dir = dir }
  local_site.remove(dir)
  if not rows then return err.message end
  for _, row in ipairs(rows) do
    if not row.ok then return ("%s: %s; %s"):format(row.name, row.message, row.remedy or "") end
  end
end

return local_site
