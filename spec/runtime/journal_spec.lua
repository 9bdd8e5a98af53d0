local fs = require "rt.fs"
local journal = require "rt.journal"
local json = require "rt.json"

describe("rt.journal", function()
  local dir, store

  before_each(function()
    dir = assert(fs.temp_dir())
    store = assert(journal.open(dir .. "/state.db"))
    assert(store:exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
  end)

  after_each(function()
    store:close()
    assert(fs.remove(dir, { recursive = true }))
  end)

  it("keeps integers of 64 bits, text with zeros, reals and nothing as they are", function()
    local values = { math.maxinteger, math.mininteger, (1 << 53) + 1, "a\0b", "", 1.5 }
    for index, value in ipairs(values) do
      assert(store:exec("INSERT INTO t VALUES (?1, ?2)", { index, value }))
    end
    assert(store:exec("INSERT INTO t VALUES (?1, ?2)", { n = 2, 100, nil }))
    assert(store:exec("INSERT INTO t VALUES (?1, ?2)", { 101, json.null }))
    local rows = assert(store:exec("SELECT v FROM t ORDER BY id"))
    for index, value in ipairs(values) do
      assert.equal(value, rows[index].v)
      assert.equal(math.type(value), math.type(rows[index].v))
    end
    assert.is_nil(rows[7].v)
    assert.is_nil(rows[8].v)
    assert.equal(8, #rows)
  end)

  it("makes a file that only its owner reads", function()
    assert.equal("0600", fs.stat(dir .. "/state.db").mode)
  end)

  it("makes a new store's file as bytes, which opens with its tables", function()
    local bytes = assert(journal.blank("CREATE TABLE made (v); PRAGMA user_version = 7"))
    local path = dir .. "/blank.db"
    assert(fs.write(path, bytes, { mode = "0600" }))
    local made <close> = assert(journal.open(path))
    assert(made:exec("INSERT INTO made VALUES (1)"))
    assert.equal(7, made:exec("PRAGMA user_version")[1].user_version)
    assert.equal("wal", made:exec("PRAGMA journal_mode")[1].journal_mode)
    assert.matches("TABEL", select(2, journal.blank("CREATE TABEL x")).message)
  end)

  it("keeps what was acknowledged in the log that a closed store leaves", function()
    assert(store:exec("INSERT INTO t VALUES (1, 'kept')"))
    store:close()
    store = assert(journal.open(dir .. "/state.db"))
    assert.equal("kept", store:exec("SELECT v FROM t")[1].v)
  end)

  it("copies a long log into the file, so that it does not grow", function()
    for index = 1, 1500 do assert(store:exec("INSERT INTO t VALUES (?1, 0)", { index })) end
    assert.is_true(fs.stat(dir .. "/state.db-wal").size < 6 * 1024 * 1024)
    store:close()
    assert.is_nil(fs.stat(dir .. "/state.db-wal"))
    store = assert(journal.open(dir .. "/state.db"))
    assert.equal(1500, store:exec("SELECT count(*) AS n FROM t")[1].n)
  end)

  it("says what a constraint refused", function()
    assert(store:exec("INSERT INTO t VALUES (1, 1)"))
    local rows, err = store:exec("INSERT INTO t VALUES (1, 1)")
    assert.is_nil(rows)
    assert.equal("exists", err.kind)
  end)

  it("rolls back when the function fails, and raises its error", function()
    local ok, err = pcall(store.atomic, store, function()
      assert(store:exec("INSERT INTO t VALUES (1, 1)"))
      error({ kind = "mine" }, 0)
    end)
    assert.is_false(ok)
    assert.equal("mine", err.kind)
    assert.equal(0, #store:exec("SELECT * FROM t"))
    assert.equal("kept", store:atomic(function()
      assert(store:exec("INSERT INTO t VALUES (1, 1)"))
      return "kept"
    end))
    assert.equal(1, #store:exec("SELECT * FROM t"))
  end)

  it("refuses to wait inside a transaction", function()
    local ok, err = pcall(store.atomic, store, function() require("rt.timer").sleep(0) end)
    assert.is_false(ok)
    assert.matches("cannot wait here", tostring(err))
  end)

  it("keeps what was acknowledged when the process is killed", function()
    local script = dir .. "/child.lua"
    assert(fs.write(script, ([[
      local store = require("rt.journal").open(%q)
      for i = 1, 100000 do
        assert(store:exec("INSERT INTO t VALUES (?1, 0)", { i }))
        io.write(i, "\n") io.flush()
      end]]):format(dir .. "/state.db")))
    local kiln = fs.realpath("/proc/self/exe")
    local pipe = io.popen(("sh -c 'echo $$; exec %s lua %s'"):format(kiln, script))
    local pid = pipe:read("l")
    local last
    for _ = 1, 40 do last = tonumber(pipe:read("l")) end
    os.execute("kill -KILL " .. pid)
    for line in pipe:lines() do last = tonumber(line) or last end
    pipe:close()
    assert.is_true(#store:exec("SELECT * FROM t WHERE id = ?1", { last }) == 1)
  end)

  it("waits for another process's transaction instead of failing", function()
    local other = assert(journal.open(dir .. "/state.db"))
    store:atomic(function()
      assert(store:exec("INSERT INTO t VALUES (1, 1)"))
      assert.equal(0, #assert(other:exec("SELECT * FROM t"))) -- readers see the state before
    end)
    assert.equal(1, #assert(other:exec("SELECT * FROM t")))
    other:close()
    store:close() -- SQLite keeps the other's descriptor until the last one on the file is closed
  end)

  it("says so when the file is no store, cannot be made, or was closed", function()
    assert(fs.write(dir .. "/text.db", ("no store at all\n"):rep(100)))
    assert.equal("invalid", select(2, journal.open(dir .. "/text.db")).kind)
    assert.equal("not_found", select(2, journal.open(dir .. "/nowhere/state.db")).kind)
    store:close()
    assert.has_error(function() store:exec("SELECT 1") end)
  end)

  it("raises for parameters that are neither text nor number nor boolean", function()
    assert.has_error(function() store:exec("SELECT ?1", { {} }) end)
    assert.equal("invalid", select(2, store:exec("SELECT ?1")).kind)
  end)
end)
