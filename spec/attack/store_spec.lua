---A `.kiln/state.db` that somebody else wrote: what it can make kiln do. A real run is stopped, its
---store is changed, and kiln goes on with it as a child process.
local crafted = require "spec.support.crafted"
local fs = require "rt.fs"

describe("a crafted store", function()
  local folder, dir, id

  before_each(function()
    folder = crafted.folder()
    dir, id = folder.dir, folder:stopped_run()
  end)
  after_each(function() folder:close() end)

  local function kiln(...) return folder:kiln(...) end
  local function read(name) return fs.read(dir .. "/" .. name) end
  local function craft(...) return folder:craft(...) end

  local function assert_nothing(done)
    assert.not_equal(0, done.code, done.out .. done.err)
    return folder:assert_untouched(done)
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

  it("can do what a recipe can do, and no more", function()
    local forbidden = [=[
      local tried = {}
      for _, name in ipairs { "io", "debug", "dofile", "loadfile", "package", "collectgarbage" } do
        tried[#tried + 1] = _G[name] == nil and "no" or name
      end
      for _, name in ipairs { "execute", "remove", "rename", "exit", "tmpname" } do
        tried[#tried + 1] = os[name] == nil and "no" or name
      end
      for _, name in ipairs { "rt.proc", "rt.fs", "kiln.store", "providers.local", "kiln.cli.main",
        "../world/stdlib/kiln/spec_files", "/etc/passwd" } do
        tried[#tried + 1] = pcall(require, name) and name or "no"
      end
      tried[#tried + 1] = load(string.char(27) .. "Lua") and "bytecode" or "no"
      require("kiln.op").call { name = "tell", class = "once",
        perform = function() return true end }
      error("tried: " .. table.concat(tried, " "), 0)
    ]=]
    craft("DELETE FROM ops")
    for _, path in ipairs { "app.lua", "rollback.lua" } do
      craft("UPDATE runs SET recipe = ?1, seal = NULL", path)
      craft("DELETE FROM sources")
      craft("INSERT INTO sources (run, path, text) VALUES (?1, ?2, ?3)", id, path,
        "local app = {}\nfunction app.deploy(run)\n" .. forbidden .. "\nend\nreturn app\n")
      local said = assert_nothing(kiln("resume", id))
      assert.matches("tried: " .. ("no "):rep(18) .. "no\n", said)
      craft("UPDATE runs SET status = 'stopped'")
    end
  end)
end)
