---The world of the kill matrix on local machines: a site, projects in it, and what is there.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local local_site = require "spec.support.local_site"
local provider = require "providers.local"
local store_ = require "kiln.store"

local world = {}

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

---@class spec.LocalWorld
---@field site string
---@field driver kiln.local.Driver
---@field private projects string folder of them
local World = {}
World.__index = World

---Makes an empty site.
---@return spec.LocalWorld
function world.new()
  local self = setmetatable({ projects = assert(fs.temp_dir()) }, World)
  self.site = local_site.make "matrix"
  self.env = {
    KILN_PATH = tree, NO_COLOR = "1", KILN_LOCAL_DIR = self.site,
    KILN_LOCAL_BASE = local_site.archives,
  }
  self.driver = provider.new { dir = self.site, archives = local_site.archives }
  self.driver:base_image "debian-13"
  return self
end

---Ends everything.
function World:close()
  local_site.remove(self.site)
  assert(fs.remove(self.projects, { recursive = true }))
end

---Runs a program that knows the site.
function World:program(argv)
  return assert(proc.run { argv = argv, env = self.env, timeout = 300 })
end

---Makes a project of a folder's files.
---@param name string
---@param from string[] files and folders
---@return string dir
function World:project(name, from)
  local dir = self.projects .. "/" .. name
  assert(fs.mkdir(dir))
  local argv = { "cp", "-r", "-t", dir, table.unpack(from) }
  assert(self:program(argv).code == 0, "files of a project")
  return dir
end

---Lives a process's life; see local_life.lua.
---@return rt.proc.Result
function World:life(how, where, point, word)
  return self:program { exe, "lua", "spec/matrix/local_life.lua", how, where, point or "", word }
end

---Runs a command of kiln's on a project.
---@return rt.proc.Result
function World:kiln(dir, ...)
  return self:program { exe, "-C", dir, ... }
end

---Gives what a command printed, by line.
local function lines(self, script, ...)
  local found = {}
  for line in self:program({ "sh", "-c", script, "sh", ... }).out:gmatch("[^\n]+") do
    found[#found + 1] = line
  end
  return found
end

local function is_base(row) return row.name:find("^debian") or row.name:find("^base") end

---Describes what a project has, by what it is for and not by its name.
---@param dir string
---@param roles table<string, string> version to "new", "old"
---@return string[]
function World:state(dir, roles)
  local store <close> = store_.open(dir)
  local out, version_of = {}, {}
  for _, row in ipairs(store:releases()) do
    local version = roles[row.version] or row.version
    if row.state ~= "retired" then out[#out + 1] = ("release %s %s"):format(version, row.state) end
    for _, one in ipairs(json.decode(row.data).machines) do version_of[one.name] = version end
  end
  for _, row in ipairs(self.driver:machines()) do
    out[#out + 1] = ("machine of %s %s"):format(version_of[row.name] or "no release", row.state)
  end
  for _, row in ipairs(self.driver:addresses()) do
    out[#out + 1] = ("address of %s"):format(version_of[row.target or ""] or "nothing")
  end
  for _, row in ipairs(self.driver:images()) do
    if not is_base(row) then out[#out + 1] = "image" end
  end
  for _, row in ipairs(store:ledger { state = "live" }) do
    out[#out + 1] = "ledger " .. row.kind
  end
  table.sort(out)
  return out
end

---Names what the ledger and the site do not agree on. (What was only intended, and is not there,
---stays in the ledger as an intent: `kiln gc` looks at it again.)
local function against_ledger(self, dir)
  local store <close> = store_.open(dir)
  local count = {}
  local function add(kind, name, by)
    local key = kind .. " " .. name
    count[key] = (count[key] or 0) + by
  end
  for _, row in ipairs(self.driver:machines()) do add("machine", row.name, 1) end
  for _, row in ipairs(self.driver:addresses()) do add("address", row.name, 1) end
  for _, row in ipairs(self.driver:images()) do
    if not is_base(row) then add("image", row.name, 1) end
  end
  for _, row in ipairs(store:ledger { state = "live" }) do add(row.kind, row.name, -1) end
  local found = {}
  for key, left in pairs(count) do
    if left ~= 0 then found[#found + 1] = (left > 0 and "orphan " or "ghost ") .. key end
  end
  return found
end

---Gives the processes that know the site, or have it mounted, and are in none of its groups.
local function strangers(self, tag)
  local found, us = {}, tostring(proc.info().pid)
  for _, path in ipairs(assert(fs.glob "/proc/[0-9]*")) do
    local command = fs.read(path .. "/cmdline") or "" -- one that has ended by now has none
    local group = fs.read(path .. "/cgroup") or ""
    if command ~= "" and path ~= "/proc/" .. us and not group:find("kiln-" .. tag, 1, true) then
      local known = (fs.read(path .. "/environ") or ""):find("=" .. self.site .. "\0", 1, true)
        or (fs.read(path .. "/mountinfo") or ""):find(self.site, 1, true)
      if known then found[#found + 1] = command:gsub("%z", " ") end
    end
  end
  return found
end

---Names what the host has for a site, beyond its machines that run: processes, mounts, control
---groups, cables, folders.
local function on_host(self)
  local tag = assert(fs.read(self.site .. "/id")):match("^%x+")
  local there, expected = {}, {}
  local function add(list, kind, name)
    local key = kind .. " " .. name
    list[key] = (list[key] or 0) + 1
  end
  for _, row in ipairs(self.driver:machines()) do
    add(expected, "folder", row.name)
    if row.state == "running" then
      add(expected, "group", row.name)
      add(expected, "cable", "machine")
    end
  end
  for _, row in ipairs(self.driver:images()) do add(expected, "image", row.id) end
  for _, name in ipairs(fs.list(self.site .. "/machines")) do add(there, "folder", name) end
  for _, name in ipairs(fs.list(self.site .. "/images")) do add(there, "image", name) end
  local pid = (fs.read(self.site .. "/router") or ""):match("pid%z(%d+)")
  if pid and proc.alive(math.tointeger(tonumber(pid))) then
    add(expected, "group", "router")
    add(expected, "cable", "host")
    for _ in ipairs(lines(self, "nsenter -t $1 -n ip -o link | grep -E ' m[0-9]+@'", pid)) do
      add(there, "cable", "machine")
    end
  end
  for _ in ipairs(lines(self, "ip -o link | grep ' kl-'$1", tag)) do add(there, "cable", "host") end
  for _, name in ipairs(lines(self, [[find /sys/fs/cgroup /run/kiln -mindepth 1 -path "*kiln-$1/*" \
      -prune -type d -printf '%f\n' 2>/dev/null]], tag)) do
    add(there, "group", name)
  end
  for _, name in ipairs(strangers(self, tag)) do add(there, "process", name) end
  local found = {}
  for key, count in pairs(there) do
    if count > (expected[key] or 0) then found[#found + 1] = "too much: " .. key end
  end
  for key, count in pairs(expected) do
    if count > (there[key] or 0) then found[#found + 1] = "missing: " .. key end
  end
  return found
end

---Names everything that is wrong with what is there. What a killed process had begun may end first.
---@param dir string a project
---@return string[]
function World:problems(dir)
  local deadline = timer.now() + 20
  local found = on_host(self)
  while #found > 0 and timer.now() < deadline do
    timer.sleep(0.2)
    found = on_host(self)
  end
  local ledger = against_ledger(self, dir)
  table.move(ledger, 1, #ledger, #found + 1, found)
  table.sort(found)
  return found
end

return world
