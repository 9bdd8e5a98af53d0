---Measures what a site, its project and the host have: what must not grow.
local fs = require "rt.fs"
local journal = require "rt.journal"
local proc = require "rt.proc"

local measure = {}

local function lines_of(world, script, ...)
  local count = 0
  for _ in world:program({ "sh", "-c", script, "sh", ... }).out:gmatch("[^\n]+") do
    count = count + 1
  end
  return count
end

---Memory and open descriptors of a process.
local function process(pid)
  local status = assert(fs.read(("/proc/%s/status"):format(pid)))
  return tonumber(status:match("VmRSS:%s+(%d+)")), #assert(fs.list(("/proc/%s/fd"):format(pid)))
end

---The process that is the router, and the one that is the way out: they share a control group.
local function router_and_way_out(world)
  local router = assert(fs.read(world.site .. "/router")):match("pid%z(%d+)")
  local group = assert(fs.read(("/proc/%s/cgroup"):format(router))):match("([^\n]+)\n$")
  for _, path in ipairs(assert(fs.glob "/proc/[0-9]*")) do
    local pid = path:match("%d+$")
    local own = (fs.read(path .. "/cgroup") or ""):match("([^\n]+)\n$")
    if own == group and pid ~= router then return router, pid end
  end
  error "the site has no way out"
end

---Counts files and their bytes. What machines and images hold is counted as machines and images.
local function files(world, dir)
  local out = world:program { "sh", "-c", [[find "$1" \
    \( -path '*/machines/*/*' -o -path '*/images/*/*' \) -prune -o -printf '%s\n']], "sh", dir }.out
  local count, bytes = 0, 0
  for size in out:gmatch("%d+") do count, bytes = count + 1, bytes + tonumber(size) end
  return count, bytes
end

---Counts the rows of the store's tables.
local function count_rows(m, path)
  local db = assert(journal.open(path))
  for _, name in ipairs { "runs", "ops", "events", "sources", "ledger", "leases", "releases" } do
    m["state.db: rows of " .. name] = assert(db:exec("SELECT count(*) AS n FROM " .. name))[1].n
  end
  db:close()
end

---Takes all measures.
---@async
---@param world spec.LocalWorld
---@param dir string the project
---@param temp string where its programs have their temporary files
---@return table<string, number>
function measure.take(world, dir, temp)
  local m = {}
  local router, way_out = router_and_way_out(world)
  local tag = assert(fs.read(world.site .. "/id")):match("^%x+")
  local function count(name, script, ...) m[name] = lines_of(world, script, ...) end
  m["router: kB"], m["router: descriptors"] = process(router)
  m["way out: kB"], m["way out: descriptors"] = process(way_out)
  m["load: kB"], m["load: descriptors"] = process(proc.info().pid)
  m["machines"] = #world.driver:machines()
  m["images"] = #world.driver:images()
  m["site: files"], m["site: bytes"] = files(world, world.site)
  m[".kiln: files"], m[".kiln: bytes"] = files(world, dir .. "/.kiln")
  m["state.db: bytes"] = fs.stat(dir .. "/.kiln/state.db").size
  count_rows(m, dir .. "/.kiln/state.db")
  m["temporary files"] = #assert(fs.list(temp))
  count("host: links", "ip -o link | grep kl-$1", tag)
  count("host: routes", [[net=$(ip -o -4 addr show kl-$1 | grep -o '10\.199\.[0-9]*')
    net=${net##*.}; ip route | grep -E "10\.199\.($net|$((net + 2))|$((net + 3)))\."]], tag)
  count("host: mounts", "grep -F -e $1 -e $2 /proc/self/mountinfo", world.site, tag)
  count("host: control groups", [[find /sys/fs/cgroup /run/kiln -path "*kiln-$1/*" -type d \
    -not -path '*/payload/*' 2>/dev/null]], tag)
  count("host: processes outside machines", [[grep -l "kiln-$1" /proc/[0-9]*/cgroup 2>/dev/null |
    xargs grep -L /payload 2>/dev/null]], tag)
  count("router: links", "nsenter -t $1 -n ip -o link", router)
  count("router: routes", "nsenter -t $1 -n ip -o route", router)
  count("router: neighbours", "nsenter -t $1 -n ip -o neigh show nud permanent", router)
  count("router: addresses in rules", [[nsenter -t $1 -n nft list ruleset |
    grep -o '10\.199\.[0-9.]*']], router)
  return m
end

---What may differ at the end: memory, by what an allocator keeps; the store, by which runs are
---kept: the two newest, those of the releases that serve and are kept, and those that baked their
---images. That is three at the first measure, seven at most. All other measures are the same.
local function bound(name, before)
  if name:find("kB$") then return before * 1.25 + 1024 end
  if name:find("^state%.db: rows of ") then return before * 3 end
  if name:find("^%.kiln: bytes") or name:find("^state%.db: bytes") then return before * 2 end
  if name:find("bytes$") then return before + 1024 end
  return before
end

---Puts two measures beside each other.
---@param before table<string, number>
---@param after table<string, number>
---@return string[] rows of a table in Markdown
---@return string[] grown names of what is more than it may be
function measure.compare(before, after)
  local names, rows, grown = {}, {}, {}
  for name in pairs(before) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local ok = after[name] <= bound(name, before[name])
    rows[#rows + 1] = ("| %s | %d | %d |%s"):format(name, before[name], after[name],
      ok and "" or " GREW")
    if not ok then grown[#grown + 1] = name end
  end
  return rows, grown
end

return measure
