---Recipes in a temporary folder, run in this process or in a child that a spec can kill.
local fs = require "rt.fs"
local json = require "rt.json"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local run = require "kiln.run"

local recipes = {}

---A cloud without anything: runs of recipes that only use operations of their own.
package.preload["providers.none"] = function()
  return { new = function() return { name = "none", capabilities = {} } end }
end

---The world that spec recipes change: files. Recipes get it as `kiln.spec_world`.
package.preload["kiln.spec_world"] = function()
  return {
    touch = function(path, text)
      local file = assert(io.open(path, "a"))
      file:write(text, "\n")
      file:close()
    end,
    read = function(path) return fs.read(path) or "" end,
    sleep = timer.sleep,
    ---Fails as a driver does: an error of a recipe's own has none of the notes that steer a run.
    fail = function(fields) error_.raise(fields) end,
    ---Stops the run, as only kiln can: a recipe's own error of that kind is an ordinary one.
    stop = function(message) error_.raise { kind = "stopped", message = message } end,
  }
end

---The world of these recipes is a file: every operation that really happens adds a line to it.
recipes.prelude = [[
local op = require "kiln.op"
local app = { name = "app" }
app.args = { world = { "file that stands for the world", required = true },
             wait = { "seconds in the middle", default = 0 } }
local fs = require "kiln.spec_world"
]]

recipes.three_steps = recipes.prelude .. [[
local function touch(run, name, wait)
  return op.call { name = name, class = "idempotent", perform = function()
    fs.touch(run.args.world, name)
    if wait and wait > 0 then fs.sleep(wait) end
    return name
  end }
end
---Does three things.
function app.deploy(run, args)
  return run:transaction(function(undo)
    local first = touch(run, "one")
    undo("undo one", function() touch(run, "undo one") end)
    local second = touch(run, "two", args.wait)
    undo("undo two", function() touch(run, "undo two") end)
    local third = touch(run, "three")
    return { first, second, third }
  end)
end
return app
]]

---@class RecipeFolder
---@field dir string
local Folder = {}
Folder.__index = Folder
Folder.__close = function(self) fs.remove(self.dir, { recursive = true }) end

---Makes a folder; use it as `local folder <close>`.
function recipes.folder()
  return setmetatable({ dir = assert(fs.temp_dir()), events = {} }, Folder)
end

---Writes a file of the folder.
function Folder:write(name, text)
  assert(fs.write(self.dir .. "/" .. name, text))
end

---Reads a file of the folder, "" when it is not there.
function Folder:read(name)
  return fs.read(self.dir .. "/" .. name) or ""
end

local function options(self, opts)
  opts = opts or {}
  opts.emit = opts.emit or function(event) self.events[#self.events + 1] = event end
  return opts
end

---Runs a recipe of the folder to its outcome.
function Folder:start(name, opts)
  opts = options(self, opts)
  opts.file, opts.cloud = self.dir .. "/" .. name, opts.cloud or "none"
  return run.start(opts)
end

---Resumes or aborts a run of the folder.
function Folder:continue(how, id, opts)
  opts = options(self, opts)
  opts.run, opts.dir = id, self.dir
  return run[how](opts)
end

---Starts a recipe in a child process of its own; returns what reads its process number and output.
---`opts`: numbers that `kiln.run` takes too.
function Folder:spawn(name, args, opts)
  self:write("child.lua", ([[
    local recipes = dofile("spec/support/recipes.lua")
    local json = require "rt.json"
    local outcome = require("kiln.run").start {
      file = %q, cloud = "none", args = json.decode(%q), lease = %s,
    }
    io.write(outcome.status, "\n")
  ]]):format(self.dir .. "/" .. name, json.encode(args or {}),
    tostring(opts and opts.lease)))
  return ("exec %s lua %s/child.lua"):format(fs.realpath("/proc/self/exe"), self.dir)
end

return recipes
