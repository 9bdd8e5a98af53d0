local fs = require "rt.fs"
local store_ = require "kiln.store"

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
      data = ('{"serial":%d,"version":"%s"}'):format(serial, version),
    }
  end

  it("keep the one that served before", function()
    promote("v1", 1)
    promote("v2", 2)
    assert.equal("v2", store:serving("app", "default").version)
    assert.equal("v1", store:kept("app", "default").version)
    assert.equal(2, store:release_count("app", "default"))
  end)

  it("are recorded once, however often an interrupted run comes back to it", function()
    promote("v1", 1)
    promote("v2", 2)
    promote("v2", 2)
    assert.equal("v1", store:kept("app", "default").version)
    assert.equal(2, store:release_count("app", "default"))
  end)

  it("let one run release twice, even the same version", function()
    promote("v1", 1)
    promote("v2", 2)
    promote("v1", 3)
    assert.equal("v1", store:serving("app", "default").version)
    assert.equal("v2", store:kept("app", "default").version)
    assert.equal(3, store:release_count("app", "default"))
  end)

  it("know nothing of another environment", function()
    promote("v1", 1)
    assert.is_nil(store:serving("app", "production"))
  end)
end)
