---Recipes that never come to an operation, or catch every error: the first Ctrl-C ends them.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local recipes = require "spec.support.recipes"

local exe = assert(fs.realpath("/proc/self/exe"))
local root = assert(fs.cwd())

---What a recipe does for ever.
local loops = {
  plain = "while true do end",
  pcall = "while true do pcall(error, 'x') end",
  pcall_function = "local function f() while true do end end while true do pcall(f) end",
  nested_pcall = [[
    local function deep(n) if n == 0 then while true do end end pcall(deep, n - 1) end
    while true do deep(20) end]],
  coroutine = "while true do coroutine.wrap(function() while true do end end)() end",
  nested_coroutines = [[
    local function nest(n)
      local co = coroutine.create(function()
        while true do if n > 0 then nest(n - 1) end end
      end)
      coroutine.resume(co)
    end
    while true do nest(10) end]],
  short_coroutines = "while true do pcall(coroutine.wrap(function() error 'x' end)) end",
  handler = "while true do xpcall(error, function() while true do end end, 'x') end",
  handler_after = [[
    while true do xpcall(function() while true do end end, function() while true do end end) end]],
  close = [[
    local mt = { __close = function() while true do end end }
    while true do pcall(function() local x <close> = setmetatable({}, mt) error "x" end) end]],
  metamethod = [[
    local t = setmetatable({}, { __index = function() while true do end end })
    while true do pcall(function() return t.x end) end]],
  sort = [[
    while true do pcall(table.sort, { 3, 2, 1 }, function() while true do end end) end]],
  operations = [[
    local op = require "kiln.op"
    while true do pcall(op.call, { name = "one", class = "read", perform = function() end }) end]],
  in_perform = [[
    require("kiln.op").call { name = "one", class = "read", perform = function()
      while true do pcall(error) end
    end }]],
  blocks = [[
    local scope = require "kiln.scope"
    while true do pcall(scope.within, 1, function() end) end]],
  children = [[
    require("kiln.scope").all({ 1, 2, 3 }, function() while true do pcall(error) end end)]],
}

local text = [[
local op = require "kiln.op"
local app = {}
app.args = { once = { "", default = "no" } }
function app.deploy(run, args)
  op.call { name = "before", class = "idempotent", perform = function() return 1 end }
  if args.once == "yes" and require("kiln.spec_loop").exists() then return "done" end
  require("kiln.spec_loop").begin()
  %s
end
return app
]]

describe("the first Ctrl-C", function()
  local dir

  before_each(function()
    dir = recipes.folder()
    assert(fs.mkdir(dir.dir .. "/overlay/stdlib/kiln", { parents = true }))
    assert(fs.mkdir(dir.dir .. "/overlay/providers"))
    dir:write("overlay/providers/none.lua",
      'return { new = function() return { name = "none", capabilities = {} } end }')
    dir:write("overlay/stdlib/kiln/spec_loop.lua", ([[
      local fs = require "rt.fs"
      return {
        begin = function() fs.write(%q, "") end,
        exists = function() return fs.stat(%q) ~= nil end,
      }]]):format(dir.dir .. "/looping", dir.dir .. "/through"))
  end)

  after_each(function() fs.remove(dir.dir, { recursive = true }) end)

  local function options(words)
    return { argv = { exe, table.unpack(words) }, cwd = dir.dir, timeout = 60,
      env = { KILN_PATH = dir.dir .. "/overlay:" .. root, KILN_CLOUD = "none" } }
  end

  ---Starts a program that makes `looping`, sends it one signal; gives how it ended, and how soon.
  local function interrupted(words)
    local child <close> = assert(proc.start(options(words)))
    repeat timer.sleep(0.01) until fs.stat(dir.dir .. "/looping")
    timer.sleep(0.05)
    local at = timer.now()
    child:kill("INT")
    local done = assert(child:wait())
    return done, timer.now() - at
  end

  for name, body in pairs(loops) do
    it("ends a recipe that loops, resumable: " .. name, function()
      dir:write("app.lua", text:format(body))
      local done, seconds = interrupted { "run", "app.lua", "--once", "yes" }
      assert.equal(4, done.code)
      assert.is_true(seconds < 5, ("%s took %.1f s"):format(name, seconds))
      local runs = json.decode(assert(proc.run(options { "runs", "--json" })).out)
      assert.equal("stopped", runs[1].status)
      dir:write("through", "")
      local resumed = assert(proc.run(options { "resume", runs[1].id }))
      assert.equal(0, resumed.code, resumed.err)
    end)
  end

  it("ends a recipe that loops while it loads", function()
    dir:write("app.lua", [[require("kiln.spec_loop").begin()
      while true do pcall(function() while true do end end) end]])
    local done, seconds = interrupted { "run", "app.lua" }
    assert.is_true(done.code == 130 or done.signal == "INT", done.err)
    assert.is_true(seconds < 5)
  end)

  it("ends a file of kiln lua that loops and catches every error", function()
    dir:write("main.lua", [[require("rt.fs").write("looping", "")
      while true do pcall(error) end]])
    local done, seconds = interrupted { "lua", "main.lua" }
    assert.equal("INT", done.signal)
    assert.is_true(seconds < 5)
  end)

  it("lets kiln's own code and a recipe that goes on to wait finish as ever", function()
    dir:write("app.lua", text:format [[
      local sum = 0
      for i = 1, 3e6 do sum = sum + i end
      op.call { name = "after", class = "idempotent", perform = function() return sum end }]])
    local done = interrupted { "run", "app.lua", "--once", "yes" }
    assert.is_true(done.code == 4 or done.code == 0)
  end)
end)
