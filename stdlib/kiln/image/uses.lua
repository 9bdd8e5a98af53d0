---What a build takes from this computer while it runs: files that it sends, variables of the
---environment that it asks for, modules that it loads. They are known only when a build has run.
---They are kept with the image, and looked at again before the image is used again.
---
---That is enough. A build of the same code does the same up to the first of them, so it reaches the
---same first one. While that is unchanged, it goes on to the same second one, and so on.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"
local transfer = require "rt.transfer"
local error_ = require "kiln.error"
local scope = require "kiln.scope"

local uses = {}

---@class kiln.image.Entry
---@field kind "file"|"variable"|"module"
---@field name string as the recipe named it
---@field exclude? string[] patterns of what of a folder was not sent
---@field mode? boolean the file's own mode went along

---@class kiln.image.Used
---@field entry kiln.image.Entry
---@field digest string

local function note(entry, digest)
  local seen = scope.state().uses
  if seen then seen[#seen + 1] = { entry = entry, digest = digest } end
end

---Runs a build and lists what it used.
---@async
---@param body fun()
---@return kiln.image.Used[]
function uses.watch(body)
  local state, seen = scope.state(), {}
  local outer = state.uses
  local _ <close> = setmetatable({}, { __close = function() state.uses = outer end })
  state.uses = seen
  body()
  return seen
end

---Loads a module and lists what that used. A build that is being watched used it as well.
---@async
---@param body fun()
---@return kiln.image.Used[]
function uses.gather(body)
  local state, seen = scope.state(), {}
  local outer = state.uses
  local _ <close> = setmetatable({}, { __close = function()
    state.uses = outer
    uses.again(seen)
  end })
  state.uses = seen
  body()
  return seen
end

---Notes what a module used that another build, or the recipe itself, has loaded before.
---@param used kiln.image.Used[]
function uses.again(used)
  local seen = scope.state().uses
  if seen then table.move(used, 1, #used, #seen + 1, seen) end
end

---Tells whether a build is being watched.
---@return boolean
function uses.watched()
  return scope.state().uses ~= nil
end

local function file_digest(done, entry)
  if done.folder then return "folder " .. done.sha256 end
  return ("file %s %s"):format(entry.mode and done.mode or "-", done.sha256)
end

---Notes a file or a folder that was sent.
---@param source string as the recipe named it
---@param opts { mode: string?, exclude: string[]? } the upload's
---@param done { sha256: string, mode: string, folder: boolean } what was sent
---@return kiln.image.Used
function uses.file(source, opts, done)
  local entry = {
    kind = "file", name = source, mode = not done.folder and not opts.mode or nil,
    exclude = done.folder and opts.exclude or nil,
  }
  local digest = file_digest(done, entry)
  note(entry, digest)
  return { entry = entry, digest = digest }
end

local function text_digest(text)
  return text and crypto.sha256(text) or "absent"
end

---Notes a variable that was asked for.
---@param name string
---@param value? string
function uses.variable(name, value)
  note({ kind = "variable", name = name }, text_digest(value))
end

---Notes a module that was loaded.
---@param path string below the recipe's folder
---@param text string
function uses.module(path, text)
  note({ kind = "module", name = path }, text_digest(text))
end

local function look_at_file(run, entry)
  local path = run:path(entry.name)
  local stat, err = fs.stat(path)
  if not stat then
    if error_.is(err, "not_found") then return "absent" end
    error_.check(nil, err)
  end
  local folder = stat.type == "directory"
  local sum = folder and transfer.digest(path, { exclude = entry.exclude })
    or not folder and crypto.sha256_file(path)
  if not sum then return "unreadable" end -- the build says why
  return file_digest({ folder = folder, sha256 = sum, mode = stat.mode }, entry)
end

---Looks at what a build used as it is today.
---@async
---@param run kiln.Run
---@param entry kiln.image.Entry
---@return string digest
function uses.look(run, entry)
  if entry.kind == "file" then return look_at_file(run, entry) end
  if entry.kind == "variable" then return text_digest(proc.getenv(entry.name)) end
  return text_digest(run.globals.read_source(entry.name))
end

---What people call it.
---@param entry kiln.image.Entry
---@return string
function uses.label(entry)
  return entry.kind .. " " .. entry.name
end

return uses
