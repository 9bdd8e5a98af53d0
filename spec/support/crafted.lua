---Stores that somebody else wrote: a folder with a recipe and a real run that was stopped in its
---middle, whose state a spec changes before kiln, as a child process, goes on with it.
local assert = require "luassert"
local fs = require "rt.fs"
local journal = require "rt.journal"
local proc = require "rt.proc"
local timer = require "rt.timer"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local crafted = {}

---What the recipe changes is a file.
local world = [[
local fs, timer = require "rt.fs", require "rt.timer"
return {
  touch = function(path) fs.write(path, "once\n", { append = true }) end,
  wait = function(path) while not fs.stat(path) do timer.sleep(0.02) end end,
}
]]

---A cloud that has nothing.
local cloud = [[
local driver = { name = "none", capabilities = {} }
for _, name in ipairs { "machines", "images", "addresses", "targets" } do
  driver[name] = function() return {} end
end
function driver.machine() return nil end
return { new = function() return driver end }
]]

local recipe = [[
local op = require "kiln.op"
local world = require "kiln.spec_files"
local app = { name = "app" }
app.args = { who = { "whom to greet", default = "you" } }

local function touch(name, result)
  return op.call { name = name, class = "idempotent", args = { name = name },
    perform = function() world.touch("DIR/" .. name) return result end }
end

---Makes something, waits, and undoes it when it is aborted.
function app.deploy(run, args)
  run:transaction(function(undo)
    local out = touch("made", "plain")
    undo("made", function() touch "unmade" end)
    run:note("result: " .. tostring(out) .. " for " .. args.who)
    op.call { name = "wait", class = "idempotent",
      perform = function() world.wait "DIR/go" return true end }
  end)
end
return app
]]

---@class spec.Crafted
---@field dir string
---@field env table<string, string>
local Folder = {}
Folder.__index = Folder

---Makes a folder with the recipe. The variable CANARY of kiln's has a value to look for.
---@return spec.Crafted
function crafted.folder()
  local dir = assert(fs.temp_dir())
  local self = setmetatable({ dir = dir, env = {
    KILN_PATH = dir .. "/world:" .. tree, KILN_CLOUD = "none", NO_COLOR = "1", KILN = exe,
    PATH = os.getenv "PATH", HOME = dir, CANARY = "the-canary-sings",
  } }, Folder)
  assert(fs.mkdir(dir .. "/world/stdlib/kiln", { parents = true }))
  assert(fs.mkdir(dir .. "/world/providers"))
  self:write("world/stdlib/kiln/spec_files.lua", world)
  self:write("world/providers/none.lua", cloud)
  self:write("app.lua", recipe)
  return self
end

---Removes it.
function Folder:close()
  assert(fs.remove(self.dir, { recursive = true }))
end

---Writes a file, with the folder's path for DIR.
function Folder:write(name, text)
  assert(fs.write(self.dir .. "/" .. name, (text:gsub("DIR", self.dir))))
end

---Runs the kiln program there.
---@async
function Folder:kiln(...)
  return assert(proc.run { argv = { exe, ... }, cwd = self.dir, env = self.env, timeout = 60 })
end

---Opens the state.
---@return rt.journal.Store
function Folder:open()
  local db = assert(journal.open(self.dir .. "/.kiln/state.db"))
  for _, setting in ipairs { "foreign_keys", "synchronous" } do
    assert(db:exec(("PRAGMA %s=OFF"):format(setting)))
  end
  return db
end

---Runs a statement on the state, as somebody does who knows SQL.
---@return table[] rows
function Folder:craft(sql, ...)
  local db = self:open()
  local rows = assert(db:exec(sql, table.pack(...)))
  db:close()
  return rows
end

---Starts a run that waits in its middle, and stops it there.
---@async
---@return string id
function Folder:stopped_run()
  local child <close> = assert(proc.start { argv = { exe, "run", "app.lua" }, cwd = self.dir,
    env = self.env })
  local limit = timer.now() + 30
  repeat timer.sleep(0.02) until fs.stat(self.dir .. "/made") or timer.now() > limit
  timer.sleep(0.1)
  child:kill "INT"
  child:wait()
  return self:craft("SELECT id FROM runs")[1].id
end

---Lets this process run the recipe, which then waits for nothing; close what is returned.
function crafted.in_process()
  package.preload["kiln.spec_files"] = function()
    return { wait = function() end, touch = function(path)
      assert(fs.write(path, "once\n", { append = true }))
    end }
  end
  package.preload["providers.none"] = function() return load(cloud)() end
  return setmetatable({}, { __close = function()
    for _, name in ipairs { "kiln.spec_files", "providers.none" } do
      package.preload[name], package.loaded[name] = nil, nil
    end
  end })
end

---Asserts that nothing of what a store asks for has happened: no command ran, no value of the
---user's showed, and what is wrong is an error that kiln knows.
---@return string said
function Folder:assert_untouched(done)
  local said = done.out .. done.err
  assert.is_nil(fs.stat(self.dir .. "/touched"), said)
  assert.is_nil(said:find("canary-sings", 1, true), said)
  assert.is_nil(said:find("internal", 1, true), said)
  assert.is_nil(said:find("attempt to", 1, true), said)
  return said
end

return crafted
