local fs = require "rt.fs"
local json = require "rt.json"
local timer = require "rt.timer"
local gc = require "kiln.gc"
local store_ = require "kiln.store"

---A cloud of lists, as a driver shows it.
local function cloud_of(lists)
  local driver = { name = "lists", capabilities = { addresses = true }, lists = lists }
  for _, kind in ipairs { "machine", "image", "address" } do
    local plural = kind == "address" and "addresses" or kind .. "s"
    lists[plural] = lists[plural] or {}
    driver[plural] = function() return table.move(lists[plural], 1, #lists[plural], 1, {}) end
    driver["destroy_" .. kind] = function(_, id)
      for index, row in ipairs(lists[plural]) do
        if row.id == id then return table.remove(lists[plural], index) end
      end
    end
  end
  return driver
end

describe("kiln.gc", function()
  local dir, store, other

  before_each(function()
    dir = assert(fs.temp_dir())
    store, other = store_.open(dir), store_.open(dir)
  end)

  after_each(function()
    store:close()
    other:close()
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function run(id, status)
    store:run_new { id = id, recipe = "app.lua", entry = "deploy", args = "{}", env = "default",
      cloud = "lists", service = "app", kiln_version = "0" }
    store:run_status(id, status)
  end

  local function made(kind, run_id, id, name)
    local token = ("kl-%s-%s%s"):format(run_id, kind, id)
    store:ledger_intent { run = run_id, key = "/#1", provider = "lists", kind = kind, name = name,
      token = token, service = "app" }
    store:ledger_live(token, id, "{}")
    return { id = id, name = name, token = token, created = timer.time() - 7200, tags = {} }
  end

  local function release(run_id, machine, image, address, kept_until)
    store:release_promote { run = run_id, service = "app", env = "default", version = run_id,
      image = image.name, colour = "blue", kept_until = kept_until or 0,
      data = json.encode { service = "app", version = run_id, image = image.name, colour = "blue",
        machines = { { id = machine.id, name = machine.name, token = machine.token } },
        address = { id = address.id, name = "app", ip = "10.0.0.9" } } }
  end

  local function names(rows)
    local list = {}
    for index, row in ipairs(rows) do list[index] = row.kind .. " " .. row.name end
    return list
  end

  it("finds what belongs to no run and no release, and removes only that", function()
    run("aaaa0001", "done")
    run("aaaa0002", "failed")
    run("aaaa0003", "stopped")
    local serving = made("machine", "aaaa0001", "1", "app-blue-1")
    local image = made("image", "aaaa0001", "i1", "app-1")
    local address = made("address", "aaaa0001", "a1", "app")
    release("aaaa0001", serving, image, address)
    local left = made("machine", "aaaa0002", "2", "app-builder")
    local unused = made("image", "aaaa0002", "i2", "app-2")
    local open = made("machine", "aaaa0003", "3", "app-green-2")
    made("machine", "aaaa0002", "4", "app-vanished")
    local foreign = { id = "5", name = "other-1", token = "kl-bbbb0009-x", tags = {} }
    local own = { id = "6", name = "by-hand" } -- carries nothing of kiln's
    local driver = cloud_of {
      machines = { serving, left, open, foreign, own }, images = { image, unused },
      addresses = { { id = "a1", name = "app", ip = "10.0.0.9", target = "1" } },
    }
    local found = gc.find(store, driver)
    assert.same({ "machine app-builder", "machine app-vanished", "image app-2" },
      names(found.garbage))
    assert.same({ "machine app-green-2" }, names(found.open))
    assert.same({ "machine other-1" }, names(found.foreign))
    for _, row in ipairs(found.garbage) do gc.remove(store, driver, row) end
    assert.equal(4, #driver:machines())
    assert.same({ image }, driver:images())
    assert.same({}, gc.find(store, driver).garbage)
  end)

  it("ends a kept release whose time is over, under its lock", function()
    run("aaaa0001", "done")
    run("aaaa0002", "done")
    local image = made("image", "aaaa0001", "i1", "app-1")
    local address = made("address", "aaaa0001", "a1", "app")
    local old, new = made("machine", "aaaa0001", "1", "app-blue-1"),
      made("machine", "aaaa0002", "2", "app-green-2")
    release("aaaa0001", old, image, address)
    release("aaaa0002", new, image, address, timer.time() - 60)
    local driver = cloud_of { machines = { old, new }, images = { image } }
    local found = gc.find(store, driver)
    assert.equal("machine app-blue-1", names(found.garbage)[1])
    assert(other:lease_take { scope = "default/app", run = "aaaa0009", ttl = 60 })
    local ok, err = pcall(gc.remove, store, driver, found.garbage[1])
    assert.is_false(ok)
    assert.equal("locked", err.kind)
    other:lease_release()
    gc.remove(store, driver, found.garbage[1])
    assert.is_nil(store:kept("app", "default"))
    assert.same({ new }, driver:machines())
  end)

  it("rebuilds a lost ledger, and the release that the address shows", function()
    local tags = { kiln_service = "app", kiln_colour = "green" }
    local driver = cloud_of {
      machines = { { id = "7", name = "app-green-4", token = "kl-cccc0001-m", tags = tags,
        image = "app-77", address = "10.0.0.7" } },
      images = { { id = "app-77", name = "app-77", token = "kl-cccc0001-i", tags = {} } },
      addresses = { { id = "a7", name = "app", ip = "10.0.0.9", target = "7" } },
    }
    local found = gc.find(store, driver)
    assert.same({}, found.garbage)
    assert.equal(3, #found.foreign)
    assert.equal(1, gc.adopt(store, driver, found.foreign, "default"))
    assert.equal("app-77", store:serving("app", "default").version)
    local again = gc.find(store, driver)
    assert.same({}, again.foreign)
    assert.same({}, again.garbage)
  end)
end)
