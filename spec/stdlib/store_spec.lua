local fs = require "rt.fs"
local store_ = require "kiln.store"

describe("kiln.store.open", function()
  local dir

  before_each(function() dir = assert(fs.temp_dir()) end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("makes a private folder that git leaves alone", function()
    store_.open(dir):close()
    assert.equal("0700", fs.stat(dir .. "/.kiln").mode)
    assert.equal("0600", fs.stat(dir .. "/.kiln/state.db").mode)
    assert.equal("*\n", fs.read(dir .. "/.kiln/.gitignore"))
  end)

  it("goes on from a making that a kill cut off", function()
    assert(fs.mkdir(dir .. "/.kiln"))
    assert(fs.write(dir .. "/.kiln/state.db", "")) -- SQLite's own beginning
    local store <close> = store_.open(dir)
    assert.equal(0, #store:runs())
  end)

  it("refuses to begin anew beside the log of a file that is gone", function()
    local store = store_.open(dir)
    store:lease_take { scope = "default/app", run = "1", ttl = 60 }
    store:close()
    assert(fs.remove(dir .. "/.kiln/state.db"))
    local ok, err = pcall(store_.open, dir)
    assert.is_false(ok)
    assert.equal("invalid", err.kind)
    assert.matches("state.db is gone, but its log", err.message, 1, true)
  end)
end)

describe("kiln.store's leases", function()
  local dir, first, second

  before_each(function()
    dir = assert(fs.temp_dir())
    first, second = store_.open(dir), store_.open(dir)
  end)

  after_each(function()
    first:close()
    second:close()
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function take(store, run, ttl)
    return store:lease_take { scope = "default/app", run = run, ttl = ttl or 60 }
  end

  ---Sets the time of day of every lease's end, as if the clock had jumped.
  local function jump(seconds)
    assert(first.db:exec("UPDATE leases SET expires = expires - ?1", { seconds }))
  end

  it("does not mind a clock that jumps, on one start of one machine", function()
    assert.equal(1, take(first, "1"))
    jump(86400)
    local fence, holder = take(second, "2")
    assert.is_nil(fence)
    assert.equal("1", holder.run)
    assert.is_true(first:lease_renew(0))
    jump(-86400)
    assert.equal(2, take(second, "2"))
  end)

  it("refuses the writes of an owner whose lease was taken over", function()
    assert.equal(1, take(first, "1", 0))
    assert.equal(2, take(second, "2"))
    assert.is_false(first:lease_renew(60))
    local ok, err = pcall(first.op_intent, first, "1", "/#1", "touch", "read", "d", "{}")
    assert.is_false(ok)
    assert.equal("fenced", err.kind)
    assert.is_nil(first.broken)
    second:hold()
  end)
end)

describe("kiln.store's releases", function()
  local dir, store

  before_each(function()
    dir = assert(fs.temp_dir())
    store = store_.open(dir)
    store:run_new {
      id = "0123abcd", recipe = "app.lua", entry = "deploy", args = "{}", env = "default",
      cloud = "local", service = "app", kiln_version = "0",
    }
  end)

  after_each(function()
    store:close()
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function promote(version, serial)
    store:release_promote {
      run = "0123abcd", service = "app", env = "default", version = version, image = "app-1",
      colour = serial % 2 == 1 and "blue" or "green", kept_until = 10,
      data = ('{"serial":%d,"version":"%s","machines":[],"address":{}}'):format(serial, version),
    }
  end

  it("keep the one that served before", function()
    promote("v1", 1)
    promote("v2", 2)
    assert.equal("v2", store:serving("app", "default").version)
    assert.equal("v1", store:kept("app", "default").version)
    assert.equal(2, store:release_serial("app", "default"))
  end)

  it("are recorded once, however often an interrupted run comes back to it", function()
    promote("v1", 1)
    promote("v2", 2)
    promote("v2", 2)
    assert.equal("v1", store:kept("app", "default").version)
    assert.equal(2, store:release_serial("app", "default"))
  end)

  it("let one run release twice, even the same version", function()
    promote("v1", 1)
    promote("v2", 2)
    promote("v1", 3)
    assert.equal("v1", store:serving("app", "default").version)
    assert.equal("v2", store:kept("app", "default").version)
    assert.equal(3, store:release_serial("app", "default"))
  end)

  it("are forgotten with their run once they are retired; numbers go on", function()
    promote("v1", 1)
    promote("v2", 2)
    store:release_state(store:kept("app", "default").id, "retired")
    store:run_forget("0123abcd")
    local kept = assert(store.db:exec "SELECT version FROM releases")
    assert.same({ "v2" }, { kept[1].version, kept[2] and kept[2].version })
    assert.equal("v2", store:serving("app", "default").version)
    assert.equal(2, store:release_serial("app", "default"))
  end)

  it("know nothing of another environment", function()
    promote("v1", 1)
    assert.is_nil(store:serving("app", "production"))
  end)
end)
