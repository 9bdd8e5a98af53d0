---Rows, names and code in a state file that kiln did not write: what each command does with them.
local crafted = require "spec.support.crafted"
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local provider = require "kiln.provider"
local run_ = require "kiln.run"
local api = require "providers.digitalocean.api"

local key = "ssh-ed25519 " .. ("A"):rep(68)

describe("a crafted store's rows", function()
  local folder, dir, id

  before_each(function()
    folder = crafted.folder()
    dir, id = folder.dir, folder:stopped_run()
  end)
  after_each(function() folder:close() end)

  local function craft(...) return folder:craft(...) end

  local function kiln(...)
    local done = folder:kiln(...)
    folder:assert_untouched(done)
    return done
  end

  ---A live machine in the ledger, and in a release that serves.
  local function machine(fields)
    local data = { id = "1", name = "m", address = "127.0.0.1", host_key = key }
    for name, value in pairs(fields) do data[name] = value end
    craft("DELETE FROM ledger")
    craft([[INSERT INTO ledger (token, run, key, provider, kind, name, id, service, state, data,
      created) VALUES (?1, ?2, '', ?3, 'machine', ?4, '1', 'app', ?5, ?6, 1.0)]],
      fields.token or "kl-1-1", id, fields.provider or "none", data.name, fields.state or "live",
      json.encode(data))
  end

  it("are refused with a trigger, a view or a virtual table beside them", function()
    for sql, commands in pairs {
      ["CREATE TRIGGER planted AFTER UPDATE ON runs BEGIN DELETE FROM ops; END"] = {
        { "status" }, { "runs" }, { "show", id }, { "log", id }, { "gc" }, { "resume", id },
        { "abort", id }, { "rollback", "app" }, { "ssh", "m" }, { "runs", "prune", "--keep", "0" },
        { "run", "app.lua" },
      },
      ["CREATE VIEW planted AS SELECT randomblob(1000000000) AS id"] = { { "runs" } },
      ["CREATE VIRTUAL TABLE planted USING fts5(text)"] = { { "abort", id } },
    } do
      craft(sql)
      for _, words in ipairs(commands) do
        local done = kiln(table.unpack(words))
        assert.equal(1, done.code, words[1] .. done.err)
        assert.matches("'planted', which kiln does not make", done.err, 1, true)
      end
      craft(("DROP %s planted"):format(sql:match "TRIGGER" or sql:match "VIEW" or "TABLE"))
    end
    assert.equal(0, kiln("runs").code)
  end)

  ---Puts a table there that has the same rows and none of the constraints, and a copy of it.
  local function loosen(name)
    for _, sql in ipairs {
      "CREATE TABLE loose AS SELECT * FROM " .. name, "DROP TABLE " .. name,
      "ALTER TABLE loose RENAME TO " .. name, "CREATE TABLE kept AS SELECT * FROM " .. name,
    } do craft(sql) end
  end

  it("are refused, or do no harm, whatever a column holds", function()
    local _ <close> = crafted.in_process()
    local hostile = { "NULL", "7", "'-oProxyCommand=x'", "x'00ff'", "'{\"a\":'", "'[1]'" }
    local count, kinds = 0, {}
    for _, name in ipairs { "runs", "ops", "sources", "ledger", "leases" } do
      machine {}
      loosen(name)
      for _, column in ipairs(craft(("PRAGMA table_info(%s)"):format(name))) do
        for _, value in ipairs(hostile) do
          craft(("UPDATE %s SET %s = %s"):format(name, column.name, value))
          local outcome = run_.abort { dir = dir, run = id, emit = function() end }
          local err = outcome.error
          count = count + 1
          kinds[err and err.kind or outcome.status] = true
          local what = ("%s.%s = %s: %s"):format(name, column.name, value, err and err.message)
          assert.not_equal("error", err and err.kind, what)
          craft("DELETE FROM " .. name)
          craft(("INSERT INTO %s SELECT * FROM kept"):format(name))
          craft("UPDATE runs SET status = 'stopped'")
          craft("UPDATE ops SET state = 'intent', error = NULL, outcome_seal = NULL "
            .. "WHERE name = 'wait'")
          craft("DELETE FROM ops WHERE name = 'unmade'")
        end
      end
      craft "DROP TABLE kept"
    end
    assert.is_true(kinds.store and kinds.cancelled)
    print(("\ncrafted rows: %d aborts"):format(count))
  end)

  it("name no path outside of the state", function()
    assert(fs.mkdir(dir .. "/.kiln/ssh/host-..", { parents = true }))
    for _, name in ipairs { "victim", "victim.pub" } do folder:write(name, "kept") end
    for _, token in ipairs { "../../../victim", "/../../../victim", "a/../../../../victim" } do
      machine { token = token, state = "gone" }
      local done = kiln("gc", "--yes")
      assert.equal(1, done.code, done.err)
      assert.matches("a row of ledger has a 'token' that kiln does not write", done.err, 1, true)
    end
    for _, wrong in ipairs { id .. "/../../x", id .. "\n", "zz" } do
        craft("INSERT OR REPLACE INTO runs SELECT ?2, recipe, entry, args, env, cloud, service, "
        .. "kiln_version, status, started, ended, result, error, NULL, failed_key, on_error "
        .. "FROM runs WHERE id = ?1", id, wrong)
      assert.equal(1, kiln("runs").code)
      craft("DELETE FROM runs WHERE id = ?1", wrong)
    end
    for _, name in ipairs { "victim", "victim.pub" } do
      assert.equal("kept", fs.read(dir .. "/" .. name))
    end
  end)

  it("name no module but a cloud's", function()
    for _, name in ipairs { "local.base", "digitalocean.api", "../../none", "none/../none", "" } do
      machine { provider = name }
      for _, words in ipairs { { "status" }, { "show", id }, { "gc" }, { "ssh", "m" } } do
        kiln(table.unpack(words))
      end
      machine {}
      craft("UPDATE runs SET cloud = ?1, seal = NULL, status = 'stopped'", name)
      assert.equal(1, kiln("abort", id).code)
      craft "UPDATE runs SET cloud = 'none'"
      local ok, err = pcall(provider.driver, name)
      assert.is_false(ok)
      assert.equal("usage", err.kind, err.message)
    end
  end)

  it("give ssh no option, and its known hosts no line", function()
    for _, fields in ipairs {
      { address = "-oProxyCommand=touch touched" }, { address = "x -oProxyCommand=touch" },
      { address = "$(touch touched)" }, { address = "a\nb" }, { address = "ssh://x" },
      { host_key = key .. "\n* " .. key }, { host_key = "* " .. key .. "\n" }, { host_key = 7 },
    } do
      machine(fields)
      local done = kiln("ssh", "m", "true")
      assert.equal(1, done.code, done.err)
      assert.matches("an address or a host key of m that is none", done.err, 1, true)
    end
    for _, name in ipairs { "-oProxyCommand=touch touched", "x\nProxyCommand touch x", "%h" } do
      machine { name = name }
      local done = kiln("ssh", "127.0.0.1", "true")
      assert.not_equal(0, done.code, done.err) -- no key of that host is known
    end
  end)

  it("complete to words that a shell takes as they are", function()
    for _, name in ipairs { "$(touch touched)", "`touch touched`", "a;touch touched", "a b",
      "a\ntouch touched", "'", "~root" } do
      machine { name = name }
      local done = assert(proc.run { cwd = dir, env = folder.env, argv = { "bash", "-c", [[
        kiln() { "$KILN" "$@"; }
        source <(kiln completion bash)
        COMP_WORDS=(kiln ssh "") COMP_CWORD=2
        _kiln
        [ ${#COMPREPLY[@]} = 0 ] || eval "printf %s ${COMPREPLY[0]}"
      ]] } })
      assert.equal(0, done.code, done.err)
      folder:assert_untouched(done)
      assert.equal(name:find "\n" and "" or name, done.out)
    end
  end)

  it("begin no other file than the state's", function()
    assert(fs.remove(dir .. "/.kiln/.gitignore"))
    assert(proc.run { argv = { "ln", "-s", "../planted", dir .. "/.kiln/.gitignore" } })
    craft("INSERT INTO project (id) VALUES (?1)", "0123456789abcdef\n../x")
    assert.equal(0, kiln("runs").code)
    assert.equal(1, kiln("run", "app.lua").code)
    assert.is_nil(fs.stat(dir .. "/planted"))
    assert.is_nil(fs.stat(dir .. "/kiln.project"))
  end)

  it("name an entry that the recipe has", function()
    for _, entry in ipairs { "name", "nothing", "__index" } do
      craft("UPDATE runs SET entry = ?1, seal = NULL", entry)
      local done = kiln("abort", id)
      assert.equal(64, done.code, done.err)
      assert.matches("has no entry '" .. entry .. "'", done.err, 1, true)
    end
  end)

  it("lead to no other path of a cloud's API", function()
    local sent = 0
    local cloud = api.new { token = "any", url = "http://127.0.0.1:1",
      send = function() sent = sent + 1 error "sent" end }
    for _, path in ipairs { "/v2/images/1/../../droplets/2", "/v2/images/..", "/v2/./images",
      "/v2/images/1/..?page=2" } do
      local ok, err = pcall(cloud.call, cloud, "DELETE", path)
      assert.is_false(ok)
      assert.equal("invalid", err.kind, err.message)
    end
    assert.equal(0, sent)
  end)
end)
