---A user's project on local machines: a recipe in a folder of its own, on a site of its own.
local fs = require "rt.fs"
local proc = require "rt.proc"
local local_site = require "spec.support.local_site"

local exe = assert(fs.realpath("/proc/self/exe"))

local local_project = {}

---@class spec.LocalProject
---@field dir string where the recipe lies
---@field site string
---@field env table<string, string> of its commands
local Project = {}
Project.__index = Project

---Makes a project. Close it when its machines are to go.
---@async
---@param name string letters and digits
---@param files table<string, string> path below the folder to text
---@return spec.LocalProject
function local_project.make(name, files)
  local self = setmetatable({ site = local_site.make(name), dir = assert(fs.temp_dir()) }, Project)
  self.env = {
    NO_COLOR = "1", KILN_LOCAL_DIR = self.site, KILN_LOCAL_BASE = local_site.archives,
  }
  for path, text in pairs(files) do self:write(path, text) end
  return self
end

---Writes a file of the project.
---@param path string
---@param text string
function Project:write(path, text)
  assert(fs.mkdir(self.dir .. "/" .. (path:match("^(.*)/") or ""), { parents = true }))
  assert(fs.write(self.dir .. "/" .. path, text))
end

---Runs kiln in the project's folder, as a user does.
---@async
---@param ... string words
---@return { code: integer, out: string, err: string } done
function Project:kiln(...)
  return assert(proc.run {
    argv = { exe, ... }, cwd = self.dir, env = self.env, timeout = 120, max_output = 64 << 20,
  })
end

---Ends the machines and removes the site and the folder.
---@async
function Project:close()
  local_site.remove(self.site)
  assert(fs.remove(self.dir, { recursive = true }))
end

return local_project
