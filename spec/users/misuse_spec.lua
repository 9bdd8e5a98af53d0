---Misuse: every function of every module that a recipe may require, and every method of the run, of
---its cloud, of machines and of hosts, called with arguments that make no sense. Each call is an
---error that names the recipe's line, or it works; none is a fault of kiln's own, none hangs.
local json = require "rt.json"
local faces = require "kiln.engine.faces"
local stranger = require "spec.support.stranger"
local tree = require "spec.support.tree"

---Calls what it is given with hostile arguments, and prints what is wrong with an outcome.
local sweep = [=[
local json = require "kiln.json"
local scope = require "kiln.scope"
local names = json.decode [==[NAMES]==]

---What is hostile, made anew for each call.
local hostile = {
  { "nil", function() end }, { "7", function() return 7 end }, { "{}", function() return {} end },
  { "function", function() return function() end end },
  { "an empty text", function() return "" end },
  { "{ nonsense = true }", function() return { nonsense = true } end },
  { "true", function() return true end },
}
local counts = { calls = 0, errors = 0, worked = 0, waited = 0 }

---Says what is wrong with an error; nil for a good one.
local function wrong(err)
  if type(err) == "string" then -- a fault of Lua's, or what a primitive refuses
    err = { kind = "usage", message = err, at = err:match "^(app.lua:%d+): " }
  end
  if err.at ~= "app.lua:LINE" then return "at " .. tostring(err.at) end
  for _, text in ipairs { "stdlib/", "providers/", "recipes/", "internal", "traceback",
    "attempt to", "bad argument" } do
    if err.message:find(text, 1, true) then return "tells of " .. text end
  end
  local of_recipe = { usage = true, invalid = true, unsupported = true, not_found = true }
  if of_recipe[err.kind] and err.message:find("app.lua:LINE: ", 1, true) ~= 1 then
    return "does not begin with its line"
  end
end

local function call(name, fn, words)
  local function attempt()
    local result = fn(table.unpack(words, 1, words.n)) -- here
    return result
  end
  local ok, err = pcall(attempt)
  counts.calls = counts.calls + 1
  if ok then counts.worked = counts.worked + 1 return end
  if type(err) == "table" and err.kind == "cancelled" then error(err, 0) end -- it waits
  counts.errors = counts.errors + 1
  local problem = wrong(err)
  if problem then print(("WRONG %s %s: %s"):format(name, problem, tostring(err))) end
end

---Lists each hostile value at each of the first places; `good` stands before it.
local function calls_of(object, good)
  local list = {}
  local function add(...)
    list[#list + 1] = object and table.pack(object, ...) or table.pack(...)
  end
  add()
  for _, one in ipairs(hostile) do
    local what, make = one[1], one[2]
    add(make())
    add(good, make())
    add(good, good, make())
    if object and what ~= "function" then list[#list + 1] = table.pack((make())) end
  end
  return list
end

---Calls a function with each of them. One that waits for the world is left after a while.
local function try(name, fn, object, good)
  local list, at = calls_of(object, good), 1
  local function rest()
    while at <= #list do
      call(name, fn, list[at])
      at = at + 1
    end
  end
  repeat
    local ok, err = pcall(scope.within, 3, rest)
    if not ok then
      if err.kind ~= "timeout" then error(err, 0) end
      counts.waited, at = counts.waited + 1, at + 1
    end
  until ok
end

local function methods(title, object, list)
  for _, name in ipairs(list) do try(title .. ":" .. name, object[name], object, "x") end
end
]=]

local recipe = sweep .. [=[
local app = { name = "app" }

function app.modules()
  for _, module in ipairs(names.modules) do
    local functions = require(module)
    for name, fn in pairs(functions) do
      if type(fn) == "function" then
        local good = module == "kiln.http" and "http://127.0.0.1:1/" or "x"
        try(module .. "." .. name, fn, nil, good)
      end
    end
  end
  print("COUNTS " .. json.encode(counts))
end

function app.run(run)
  methods("run", run, names.run)
  print("COUNTS " .. json.encode(counts))
end

function app.cloud(run)
  methods("run.cloud", run.cloud, names.cloud)
  methods("address", run.cloud:address "front", { "assign", "connections" })
  print("COUNTS " .. json.encode(counts))
end

function app.machine(run)
  local base = run.cloud:base "debian-13"
  local machine = run.cloud:machines({ names = { "m" }, image = base.id })[1]
  machine:ready()
  for _, swapped in ipairs { { "text", "/etc/x" }, { "", "/etc/x" }, { "~other/x", "text" } } do
    call("machine:write", machine.write, table.pack(machine, swapped[1], swapped[2]))
  end
  assert(counts.errors == 3, "a target that is no path was accepted")
  methods("machine", machine, names.machine)
  print("COUNTS " .. json.encode(counts))
end

return app
]=]

---Lists the methods of a class and of what it extends; those that end a machine are the last.
local function methods_of(class)
  local list, last = {}, { destroy = 1, power_off = 2 }
  while class do
    for name, item in pairs(class) do
      if type(item) == "function" and not name:find "^__" then list[#list + 1] = name end
    end
    local base = (getmetatable(class) or {}).__index
    class = type(base) == "table" and base or nil
  end
  table.sort(list, function(a, b)
    local first, second = last[a] or 0, last[b] or 0
    if first ~= second then return first < second end
    return a < b
  end)
  return list
end

---Lists the functions of `run.cloud`: its own, and those of its parts.
local function functions_of_cloud()
  local list, text = {}, tree.text "stdlib/kiln/provider.lua"
  for name in text:gmatch "function Cloud:([%w_]+)" do list[#list + 1] = name end
  for name in text:match("local parts = (%b{})"):gmatch '([%w_]+) = "' do list[#list + 1] = name end
  table.sort(list)
  return list
end

describe("misuse", function()
  local user

  setup(function()
    user = stranger.new()
    local machine = require("kiln.machine").new({}, {})
    local text = recipe:gsub("NAMES", function()
      return json.encode {
        modules = faces.names(), run = methods_of(require "kiln.run.object"),
        cloud = functions_of_cloud(), machine = methods_of(getmetatable(machine)),
      }
    end)
    local number = 0
    for line in text:gmatch "([^\n]*)\n" do
      number = number + 1
      if line:find("-- here", 1, true) then text = text:gsub("LINE", tostring(number)) break end
    end
    user:write("app.lua", text)
  end)

  teardown(function() user:close() end)

  ---Runs a sweep; returns its counts.
  local function swept(entry)
    local done = user:kiln("run", "app.lua", entry)
    local wrong = {}
    for line in done.out:gmatch "WRONG ([^\n]*)" do wrong[#wrong + 1] = line end
    assert.equal(0, #wrong, table.concat(wrong, "\n"))
    local counts = done.out:match "COUNTS ([^\n]*)"
    assert.is_string(counts, done.out .. done.err)
    assert.equal(0, done.code, done.err)
    counts = json.decode(counts)
    io.write(("\nmisuse of %s: %d calls: %d errors with their line, %d worked, %d waited\n"):format(
      entry, counts.calls, counts.errors, counts.worked, counts.waited))
    return counts
  end

  ---What ends a run, and the words after the recipe's line.
  local single = {
    ['http.get(nil)'] = "http.get: 'url' must be a string or a secret, not nil",
    ['http.get({})'] = "http.get: 'url' must be a string or a secret, not a table",
    ['http.get("http://127.0.0.1:1/", { timeout = "1" })'] = "http.get: option 'timeout' must be",
    ['cloudinit.write_file(nil)'] = "cloudinit.write_file: 'path' must be a string, not nil",
    ['cloudinit.env_file("/x", 7)'] = "cloudinit.env_file: 'variables' must be a table, not 7",
    ['ssh.connect(7)'] = "ssh.connect: 'opts' must be a table or a string, not 7",
    ['sh.quote(nil)'] = "sh.quote: 'word' must be a string, a number or a secret, not nil",
    ['run:secret({})'] = "run:secret: 'name' must be a string, not a table",
    ['run.note("x")'] = "run:note: write run:note(…), with the object before the colon",
    ['run:halt {}'] = "run:halt: this is kiln's own, and not for recipes",
    ['run:transaction(nil)'] = "run:transaction: 'body' must be a function, not nil",
    ['run:transaction(function() end, { undon = "x" })'] = "run:transaction: unknown option "
      .. "'undon'; did you mean 'undone'?",
    ['run.cloud:machines { names = { "m" }, image = "i", user_data = "hello" }'] = "",
    ['require "recipes.blue_green"(run, { drian = 2 })'] = "blue_green: unknown option 'drian'",
    ['return require "recipes.remove"(run, { service = 7 })'] = "remove: option 'service' must be",
  }

  it("ends the run with the recipe's line, and without a traceback", function()
    for text, said in pairs(single) do
      user:write("one.lua", ([[
local cloudinit, http = require "kiln.cloudinit", require "kiln.http"
local sh, ssh = require "kiln.sh", require "kiln.ssh"
local app = { name = "one", uses = { cloudinit, http, sh, ssh } }
function app.deploy(run)
  %s
end
return app
]]):format(text))
      local done = user:kiln("run", "one.lua")
      assert.is_true(done.code == 1 or done.code == 3, text .. done.err)
      assert.matches("one.lua:5: " .. said, done.err, 1, true)
      for _, word in ipairs { "traceback", "internal", "stdlib/", "recipes/" } do
        assert.is_nil(done.err:find(word, 1, true), text .. "\n" .. done.err)
      end
    end
  end)

  it("of a module's functions names the recipe's line", function()
    assert.is_true(swept("modules").errors > 800)
  end)

  it("of a run's methods does", function()
    assert.is_true(swept("run").errors > 150)
  end)

  it("of the cloud's functions does", function()
    assert.is_true(swept("cloud").errors > 200)
  end)

  it("of a machine's methods does", function()
    local missing = stranger.lacking()
    if missing then pending("NOT RUN: " .. missing) return end
    assert.is_true(swept("machine").errors > 150)
  end)
end)
