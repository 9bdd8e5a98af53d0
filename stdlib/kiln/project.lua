---The identity of a project: a random id in the file `kiln.project` beside the recipe. What a
---project makes in a cloud carries it, so two projects are told apart whatever they are called, and
---two checkouts of one project know each other.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local error_ = require "kiln.error"

local project = {}

local note = "# The identity of this kiln project. Commit this file: machines in a cloud are known "
  .. "by it.\n"

local function path_of(dir)
  return (dir == "." and "" or dir .. "/") .. "kiln.project"
end

---Reads the file; nil when there is none. Raises `usage` when it holds no id.
local function read(dir)
  local path = path_of(dir)
  local text, err = fs.read(path)
  if not text then
    if err.kind == "not_found" then return nil end
    error_.check(nil, err, path)
  end
  local id = ("\n" .. text):match("\nid = (%x+)%s*\n") or ("\n" .. text):match("\nid = (%x+)%s*$")
  if id and #id == 16 then return id end
  error_.raise { kind = "usage", message = ("%s holds no project's id (a line `id = ` with 16 "
    .. "hexadecimal digits): restore the file from version control"):format(path) }
end

---Returns the project's id as far as there is one. Raises `usage` when `kiln.project` and the state
---in `.kiln` are of two projects.
---@param dir string where the recipe lies
---@param store kiln.Store
---@return string? id
function project.known(dir, store)
  local written, kept = read(dir), store:project()
  if written and kept and written ~= kept then
    error_.raise { kind = "usage", message = ("%s says that this is project %s, and the state in "
      .. "%s/.kiln is of project %s: restore the file from version control, or move .kiln away to "
      .. "begin with an empty state"):format(path_of(dir), written, dir, kept) }
  end
  return written or kept
end

local function write(dir, id)
  local text = note .. "id = " .. id .. "\n"
  local made, err = fs.write(path_of(dir), text, { exclusive = true, mode = "0644" })
  if not made and err.kind ~= "exists" then error_.check(nil, err, path_of(dir)) end
  return made ~= nil
end

---Brings the file and the state together: each gets the id that only the other one has. Raises what
---`known` raises.
---@param dir string
---@param store kiln.Store
function project.restore(dir, store)
  local id = project.known(dir, store)
  if not id then return end
  if not read(dir) then write(dir, id) end
  if not store:project() then store:project_set(id) end
end

---Returns the project's id; makes it, file and all, when there is none. Several processes that do
---so at the same time get the same id. Once the state has it, no file is read.
---@param dir string
---@param store kiln.Store
---@return string id
---@return boolean new whether this call has made the file
function project.ensure(dir, store)
  local id = store:project()
  if id then return id, false end
  local new = read(dir) == nil and write(dir, crypto.hex(crypto.random(8)))
  store:project_set(read(dir))
  return store:project(), new
end

return project
