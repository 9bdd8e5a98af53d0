local fs = require "rt.fs"
local proc = require "rt.proc"
local faces = require "kiln.engine.faces"
local recipes = require "spec.support.recipes"
local tree = require "spec.support.tree"

local exe = assert(fs.realpath("/proc/self/exe"))
local root = assert(fs.cwd())

---Runs a recipe by the kiln program in a folder of its own, where attackers left files.
local function kiln_run(body, files)
  local folder <close> = recipes.folder()
  assert(fs.mkdir(folder.dir .. "/kiln"))
  assert(fs.mkdir(folder.dir .. "/overlay/providers", { parents = true }))
  folder:write("overlay/providers/none.lua",
    'return { new = function() return { name = "none", capabilities = {} } end }')
  folder:write("app.lua", ("local app = {}\nfunction app.deploy(run)\n%s\nend\nreturn app\n")
    :format(body))
  for name, text in pairs(files or {}) do folder:write(name, text) end
  return assert(proc.run { argv = { exe, "run", "app.lua" }, cwd = folder.dir, timeout = 30,
    env = {
      KILN_PATH = folder.dir .. "/overlay:" .. root, KILN_CLOUD = "none", NO_COLOR = "1",
      LUA_PATH = folder.dir .. "/?.lua", LUA_CPATH = folder.dir .. "/?.so",
      LUA_PATH_5_4 = folder.dir .. "/?.lua;;",
    } }), folder
end

local evil = [[io.stderr:write "the attacker's file ran\n" return {}]]

describe("require in a recipe", function()
  it("takes no kiln.* from the working directory, by any path", function()
    for _, name in ipairs { "kiln.evil", "kiln.sub.evil" } do
      local done = kiln_run(("require %q"):format(name), { ["kiln/evil.lua"] = evil })
      assert.equal(1, done.code, done.err)
      assert.is_nil(done.err:find("attacker", 1, true))
      assert.matches("a recipe cannot require '" .. name .. "'", done.err, 1, true)
    end
  end)

  it("takes no library of kiln's own program from the working directory", function()
    local done = kiln_run([[run:note "went"]],
      { ["argparse.lua"] = evil, ["kiln/error.lua"] = evil })
    assert.equal(0, done.code, done.err)
    assert.is_nil(done.err:find("attacker", 1, true))
  end)

  it("takes files beside the recipe, in the recipe's own world", function()
    local done = kiln_run([[run:note(require("helper"))]],
      { ["helper.lua"] = [[return "io is " .. tostring(io)]] })
    assert.equal("io is nil\n", done.out, done.err)
  end)

  it("refuses all of kiln that is not on the list, with what there is", function()
    local public = {}
    for _, name in ipairs(faces.names()) do public[name] = true end
    local modules = { "rt.fs", "rt.proc", "rt.crypto", "rt.host", "providers.local" }
    for _, path in ipairs(tree.files("stdlib/kiln", "%.lua$")) do
      local name = path:gsub("^stdlib/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
      modules[#modules + 1] = not public[name] and name or nil
    end
    local list = {}
    for index, name in ipairs(modules) do list[index] = ("%q"):format(name) end
    local done = kiln_run(([[
      for _, name in ipairs { %s } do
        local ok, err = pcall(require, name)
        if ok or not tostring(err):find("a recipe cannot require '" .. name, 1, true) then
          error(name .. " can be had", 0)
        end
        assert(err.message:find("kiln.cloudinit", 1, true))
      end
    ]]):format(table.concat(list, ", ")))
    assert.equal(0, done.code, done.err)
    assert.is_true(#modules > 40)
  end)

  it("says what to use in place of it", function()
    local done = kiln_run [[require "kiln.provider"]]
    assert.matches("cannot require 'kiln.provider': the cloud is run.cloud", done.err, 1, true)
  end)

  it("gives every module of the list, and reaches no other Lua from it", function()
    local done = kiln_run(([[
      local reached = {}
      local function look(value, path, depth)
        if type(value) ~= "table" or reached[value] or depth > 4 then return end
        reached[value] = true
        for key, item in pairs(value) do
          if ({ popen = 1, loadlib = 1, execute = 1, getinfo = 1, reveal = 1, searchers = 1 })[key]
          then error(path .. "." .. key, 0) end
          look(item, path .. "." .. tostring(key), depth + 1)
        end
        local meta = getmetatable(value)
        look(type(meta) == "table" and meta or nil, path .. ":meta", depth + 1)
      end
      for _, name in ipairs { %s } do look(require(name), name, 0) end
      look(_G, "_G", 0)
      if require("kiln.http").request == nil then error "kiln.http is empty" end
    ]]):format('"' .. table.concat(faces.names(), '", "') .. '"'))
    assert.equal(0, done.code, done.err)
  end)

  it("gives each recipe copies: what it changes there changes nothing of kiln's", function()
    local done = kiln_run [[
      local json, op, secret = require "kiln.json", require "kiln.op", require "kiln.secret"
      json.encode = function() return "patched" end
      secret.redact = function(text) return text end
      local call = op.call
      op.call = function() error "patched" end
      local value = call { name = "one", class = "read", perform = function() return { a = 1 } end }
      run:note("still " .. value.a)
    ]]
    assert.equal(0, done.code, done.err)
    assert.equal("still 1\n", done.out)
  end)

  it("has no way to the scope's record, to seals, or to unjournaled faces", function()
    local done = kiln_run [[
      assert(require("kiln.scope").state == nil)
      assert(require("kiln.secret").unseal == nil)
      assert(getmetatable(require "kiln.http") == nil)
      assert(getmetatable(require "kiln.probe") == nil)
    ]]
    assert.equal(0, done.code, done.err)
  end)
end)

describe("kiln lua", function()
  it("finds modules beside it as the plain interpreter does, but none in kiln's name", function()
    local folder <close> = recipes.folder()
    assert(fs.mkdir(folder.dir .. "/kiln"))
    folder:write("kiln/evil.lua", evil)
    folder:write("beside.lua", [[return "beside"]])
    folder:write("main.lua", [[
      io.write(require "beside", "\n")
      io.write(select(2, pcall(require, "kiln.evil")), "\n")
    ]])
    local done = assert(proc.run { argv = { exe, "lua", "main.lua" }, cwd = folder.dir })
    assert.matches("^beside\n.*there is no module 'kiln.evil' in kiln", done.out)
  end)
end)
