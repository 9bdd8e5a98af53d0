---Files of a machine, as recipes move them: each a journaled operation.
local fs = require "rt.fs"
local signature = require "kiln.engine.signature"
local env_file = require "kiln.env_file"
local error_ = require "kiln.error"
local op = require "kiln.op"
local secret = require "kiln.secret"
local sessions = require "kiln.machine_sessions"
local uses = require "kiln.image.uses"

---@class kiln.Machine
local Files = {}

---Refuses what is no path on the machine, such as a content in the place of its target. What it is
---is not shown: it may be what nobody should see.
local function check_path(method, parameter, path)
  if not secret.is(path) and (path:find("^%.?%.?/") or path:find("^~/")) then return end
  error_.raise { kind = "usage", message = ("machine:%s: '%s' must be a path on the machine: it "
    .. "begins with /, ~/ or ./ (the home folder)"):format(method, parameter) }
end

local worth_resuming = 64 * 1024 * 1024 -- bytes

---Uploads a file or a folder; written beside its place and renamed, checked by its hash there.
---Raises `not_found` (no such local file), `unreachable`, `exit`, `timeout`.
---@async
---@param source string path below the recipe's folder, or absolute
---@param target string path on the machine, "~/x" too; with a `/` at its end, the folder that takes
---  the source under its own name
---@param opts? { mode: string?, owner: string?, exclude: string[]?, timeout: number? } a file's
---  (its own, without the right of others to write it); patterns of what of a folder stays here
---  (".git", "*.o", "/build/"); seconds (600).
---  A file of 64 MB and more goes on where a killed run left it
function Files:upload(source, target, opts)
  opts = opts or {}
  check_path("upload", "target", target)
  local path = self.on:path(source)
  local done = op.call {
    name = ("upload %s to %s:%s"):format(source, self.name, target), class = "idempotent",
    stands = self.dial ~= nil,
    args = {
      machine = self.id, source = source, target = target, mode = opts.mode,
      exclude = opts.exclude,
    },
    perform = function()
      local stat = error_.check(fs.stat(path))
      local folder, tell = stat.type == "directory", self.on:teller()
      return sessions.persist(self, opts.timeout or 600, function(session, left)
        local sent = session:upload(path, target, {
          mode = not folder and opts.mode or nil, owner = opts.owner,
          exclude = opts.exclude, timeout = left, on_progress = tell,
          resume = not folder and stat.size >= worth_resuming or nil,
        })
        return { sha256 = sent.sha256, mode = stat.mode, folder = folder }
      end)
    end,
  }
  local used = uses.file(source, opts, done)
  -- Until an edited recipe goes on for real, what it asks for must be what was done.
  if self.on.edited and uses.watched() and uses.look(self.on, used.entry) ~= used.digest then
    self.on:diverge("upload " .. source, ("the builder has another '%s' than this folder")
      :format(source))
  end
end

---Writes text or a secret to a file on the machine, through a name beside it.
---@async
---@param target string absolute path
---@param content string|userdata
---@param opts? { mode: string?, owner: string?, timeout: number? } ("0644"), seconds (60)
function Files:write(target, content, opts)
  opts = opts or {}
  check_path("write", "target", target)
  op.call {
    name = ("write %s:%s"):format(self.name, target), class = "idempotent",
    stands = self.dial ~= nil,
    args = {
      machine = self.id, target = target, mode = opts.mode,
      content = content,
    },
    perform = function()
      sessions.persist(self, opts.timeout or 60, function(session, left)
        session:write(target, content, {
          mode = opts.mode or "0644", owner = opts.owner, timeout = left,
        })
      end)
    end,
  }
end

---Writes variables to a file for a unit's EnvironmentFile=.
---Raises `invalid` for a value that systemd would ignore.
---@async
---@param target string absolute path
---@param variables table<string, string|number|boolean|userdata>
---@param opts? { mode: string?, owner: string?, timeout: number? } ("0600"), seconds (60)
function Files:env_file(target, variables, opts)
  opts = opts or {}
  self:write(target, env_file.text(variables), {
    mode = opts.mode or "0600", owner = opts.owner, timeout = opts.timeout,
  })
end

---Downloads a file or a folder, whole or not at all, checked by the machine's hash. What it gives
---a recipe is a file: read it there, and the journal doesn't know what it said.
---Raises `not_found`, `exists` (a folder's target that was there), `unreachable`, `io`, `timeout`.
---@async
---@param source string absolute path on the machine
---@param target string path below the recipe's folder, or absolute; its folder is there
---@param opts? { mode: string?, replace: boolean?, exclude: string[]?, timeout: number? } a file's
---  (the source's); what is at a folder's target goes away (false); patterns of what of a folder
---  stays there (".git", "*.o", "/build"); seconds (600)
---@return { bytes: integer, sha256: string } done
function Files:download(source, target, opts)
  opts = opts or {}
  check_path("download", "source", source)
  local path = self.on:path(target)
  local was = op.call { -- a resumed run finds there what it brought itself
    name = "look at " .. target, class = "read", args = { target = target }, quiet = true,
    perform = function()
      local stat = fs.stat(path)
      return stat and stat.type or "nothing"
    end,
  }
  return op.call {
    name = ("download %s:%s to %s"):format(self.name, source, target), class = "idempotent",
    args = {
      machine = self.id, source = source, target = target, mode = opts.mode,
      exclude = opts.exclude,
    },
    perform = function()
      local tell = self.on:teller()
      return sessions.persist(self, opts.timeout or 600, function(session, left)
        local done = session:download(source, path, {
          mode = opts.mode, replace = opts.replace or was == "nothing", exclude = opts.exclude,
          timeout = left, on_progress = tell,
        })
        return { bytes = done.bytes, sha256 = done.sha256 }
      end)
    end,
  }
end

return signature.class("machine", Files)
