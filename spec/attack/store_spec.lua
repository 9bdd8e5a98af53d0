---A `.kiln/state.db` that somebody else wrote: what it can make kiln do. A real run is stopped, its
---store is changed, and kiln goes on with it as a child process.
local fs = require "rt.fs"
local journal = require "rt.journal"
local proc = require "rt.proc"
local timer = require "rt.timer"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

---What the recipe changes is a file.
local world = [[
local fs, timer = require "rt.fs", require "rt.timer"
return {
  touch = function(path) fs.write(path, "once\n", { append = true }) end,
  wait = function(path) while not fs.stat(path) do timer.sleep(0.02) end end,
}
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

describe("a crafted store", function()
  local dir, env, id

  local function write(name, text)
    assert(fs.write(dir .. "/" .. name, (text:gsub("DIR", dir))))
  end

  local function read(name) return fs.read(dir .. "/" .. name) end

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir, env = env, timeout = 60 })
  end

  ---Changes the state as an attacker does who knows SQL.
  local function craft(sql, ...)
    local db = assert(journal.open(dir .. "/.kiln/state.db"))
    local rows = assert(db:exec(sql, { ... }))
    db:close()
    return rows
  end

  ---A run that waits in its middle, stopped there.
  local function stopped_run()
    local child <close> = assert(proc.start { argv = { exe, "run", "app.lua" }, cwd = dir,
      env = env })
    local limit = timer.now() + 30
    repeat timer.sleep(0.02) until read "made" or timer.now() > limit
    timer.sleep(0.1)
    child:kill "INT"
    child:wait()
    return assert(kiln("runs").out:match("^%x+"))
  end

  before_each(function()
    dir = assert(fs.temp_dir())
    assert(fs.mkdir(dir .. "/world/stdlib/kiln", { parents = true }))
    assert(fs.mkdir(dir .. "/world/providers"))
    write("world/stdlib/kiln/spec_files.lua", world)
    write("world/providers/none.lua",
      'return { new = function() return { name = "none", capabilities = {} } end }')
    write("app.lua", recipe)
    env = { KILN_PATH = dir .. "/world:" .. tree, KILN_CLOUD = "none", NO_COLOR = "1",
      PATH = os.getenv "PATH", HOME = dir, CANARY = "the-canary-sings" }
    id = stopped_run()
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  ---Nothing of what the store asks for has happened: no command ran, no value showed.
  local function assert_nothing(done)
    local said = done.out .. done.err
    assert.not_equal(0, done.code, said)
    assert.is_nil(read "touched", said)
    assert.is_nil(said:find("canary-sings", 1, true), said)
    assert.is_nil(said:find("internal", 1, true), said)
    assert.is_nil(said:find("stack traceback", 1, true), said)
    return said
  end

  describe("with references to secrets", function()
    local sources

    before_each(function()
      assert(fs.write(dir .. "/file", "the-canary-sings"))
      sources = {
        ('command ["touch","%s/touched"]'):format(dir), "env CANARY", "env HOME", "file file",
        "key id_ed25519", "nothing of the kind",
      }
    end)

    ---A sealed text that the source is to fill, as JSON.
    local function sealed(source)
      return ('"\\u0001%s\\u001fvalue\\u0002"'):format((source:gsub('"', '\\"')))
    end

    it("runs and reads nothing for one in an outcome, and aborts when it is put right", function()
      local before = craft("SELECT result FROM ops WHERE name = 'made'")[1].result
      for _, source in ipairs(sources) do
        craft("UPDATE ops SET result = ?1, outcome_seal = NULL WHERE name = 'made'",
          ('{"value":%s}'):format(sealed(source)))
        for _, how in ipairs { "abort", "resume" } do
          local done = kiln(how, id)
          assert.equal(4, done.code, done.err)
          assert.matches("that the recipe does not ask for: nothing was read or run to get it",
            assert_nothing(done), 1, true)
        end
      end
      craft("UPDATE ops SET result = ?1 WHERE name = 'made'", before)
      local done = kiln("abort", id)
      assert.equal(0, done.code, done.err)
      assert.equal("once\n", read "unmade")
    end)

    it("runs and reads nothing for one in an operation's arguments", function()
      for _, source in ipairs(sources) do
        craft("UPDATE ops SET args = ?1, digest = '', seal = NULL WHERE name = 'made'",
          ('{"name":%s}'):format(sealed(source)))
        for _, how in ipairs { "abort", "resume" } do assert_nothing(kiln(how, id)) end
      end
    end)

    it("runs and reads nothing for one in the run's arguments", function()
      for _, source in ipairs(sources) do
        craft("UPDATE runs SET args = ?1, seal = NULL", ('{"who":%s}'):format(sealed(source)))
        for _, how in ipairs { "abort", "resume" } do assert_nothing(kiln(how, id)) end
      end
    end)

    it("shows them as they are, and asks nobody", function()
      for _, source in ipairs(sources) do
        craft("UPDATE runs SET args = ?1, error = ?2, seal = NULL",
          ('{"who":%s}'):format(sealed(source)),
          ('{"kind":"exit","message":%s}'):format(sealed(source)))
        for _, words in ipairs { { "show", id }, { "log", id }, { "runs" }, { "status" } } do
          local done = kiln(table.unpack(words))
          assert.equal(0, done.code, done.err)
          assert.is_nil(read "touched")
          assert.is_nil((done.out .. done.err):find("canary-sings", 1, true))
        end
      end
    end)
  end)
end)
