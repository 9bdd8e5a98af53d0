local fs = require "rt.fs"
local json = require "rt.json"
local timer = require "rt.timer"
local adopt = require "kiln.adopt"
local gc = require "kiln.gc"
local store_ = require "kiln.store"

---A cloud of lists, as a driver shows it.
local function cloud_of(lists)
  local driver = { name = "lists", capabilities = { addresses = true, load_balancers = true } }
  function driver:targets()
    local ids = {}
    for _, row in ipairs(self:addresses()) do ids[#ids + 1] = row.target end
    for _, row in ipairs(self:balancers()) do
      table.move(row.members, 1, #row.members, #ids + 1, ids)
    end
    return ids
  end
  for _, kind in ipairs { "machine", "image", "address", "balancer" } do
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
    local found = gc.find(store, driver, "aaaaaaaaaaaaaaaa")
    assert.same({ "machine app-builder", "machine app-vanished", "image app-2" },
      names(found.garbage))
    assert.same({ "machine app-green-2" }, names(found.open))
    assert.same({ "machine other-1" }, names(found.unlabelled))
    for _, row in ipairs(found.garbage) do gc.remove(store, driver, row) end
    assert.equal(4, #driver:machines())
    assert.same({ image }, driver:images())
    assert.same({}, gc.find(store, driver, "aaaaaaaaaaaaaaaa").garbage)
  end)

  it("leaves what carries another project's id, also when the ledger calls it its own", function()
    run("aaaa0001", "done")
    local theirs = made("machine", "aaaa0001", "1", "app-blue-1")
    local image = made("image", "aaaa0001", "i1", "app-1")
    local mine = made("machine", "aaaa0001", "2", "app-green-2")
    theirs.tags.kiln_project, image.tags.kiln_project = "bbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbb"
    mine.tags.kiln_project = "aaaaaaaaaaaaaaaa"
    local driver = cloud_of { machines = { theirs, mine }, images = { image } }
    theirs.token = "kl-bbbb0001-1" -- the ledger has its id
    local found = gc.find(store, driver, "aaaaaaaaaaaaaaaa")
    assert.same({ "machine app-green-2" }, names(found.garbage))
    assert.same({ bbbbbbbbbbbbbbbb = 2 }, found.others)
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
    local found = gc.find(store, driver, "aaaaaaaaaaaaaaaa")
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
    local found = gc.find(store, driver, "aaaaaaaaaaaaaaaa")
    assert.same({}, found.garbage)
    assert.equal(3, #found.unlabelled)
    assert.same({ "app (default): app-77 serves on app-green-4 behind address app" },
      adopt.rows(store, driver, found.unlabelled, "default"))
    assert.equal("app-77", store:serving("app", "default").version)
    local again = gc.find(store, driver, "aaaaaaaaaaaaaaaa")
    assert.same({}, again.unlabelled)
    assert.same({}, again.garbage)
  end)

  local ours, theirs = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"

  it("never lists what a front leads to, whatever the ledger says", function()
    run("aaaa0001", "failed")
    local behind, member = made("machine", "aaaa0001", "1", "app-blue-1"),
      made("machine", "aaaa0001", "2", "app-blue-2")
    local image = made("image", "aaaa0001", "i1", "app-1")
    behind.image, member.image = "i1", "i1"
    local balancer = made("balancer", "aaaa0001", "b1", "app")
    local driver = cloud_of {
      machines = { behind, member }, images = { image },
      addresses = { { id = "a9", name = "by-hand", ip = "10.0.0.9", target = "1" } },
      balancers = { { id = "b1", name = "app", token = balancer.token, members = { "2" } } },
    }
    assert.same({}, gc.find(store, driver, ours).garbage)
    driver:addresses()[1].target = nil
    local found = gc.find(store, driver, ours)
    assert.same({ "machine app-blue-1" }, names(found.garbage))
    driver:addresses()[1].target = "1" -- a front was moved since the list was made
    local ok, err = pcall(gc.remove, store, driver, found.garbage[1])
    assert.is_false(ok)
    assert.equal("exists", err.kind)
    assert.equal(2, #driver:machines())
  end)

  it("knows a balancer by the cloud's list", function()
    run("aaaa0001", "done")
    made("balancer", "aaaa0001", "b1", "app")
    made("balancer", "aaaa0001", "b2", "vanished")
    local driver = cloud_of { balancers = {
      { id = "b1", name = "app", members = {} }, { id = "b7", name = "a stranger's", members = {} },
    } }
    local found = gc.find(store, driver, ours)
    assert.same({ "balancer app", "balancer vanished" }, names(found.garbage))
    assert.same({ "run aaaa is over", "in the ledger, but not in the cloud" },
      { found.garbage[1].why, found.garbage[2].why })
    for _, row in ipairs(found.garbage) do gc.remove(store, driver, row) end
    assert.equal("a stranger's", driver:balancers()[1].name)
  end)

  it("leaves other projects' things alone, and says that there are some", function()
    local function labelled(id, project)
      return { id = id, name = "app-blue-" .. id, token = "kl-cccc000" .. id .. "-m-1",
        tags = { kiln_project = project, kiln_service = "app", kiln_env = "default" } }
    end
    local driver = cloud_of { machines = { labelled("1", ours), labelled("2", theirs) } }
    local found = gc.find(store, driver, ours)
    assert.same({ "machine app-blue-1" }, names(found.lost))
    assert.same({ [theirs] = 1 }, found.others)
    assert.same({}, found.garbage)
    assert.same({}, found.unlabelled)
  end)

  it("removes a machine's host key with it", function()
    run("aaaa0001", "failed")
    local left = made("machine", "aaaa0001", "1", "app-builder")
    assert(fs.mkdir(store.folder .. "/ssh", { parents = true }))
    local key = store.folder .. "/ssh/host-" .. left.token
    assert(fs.write(key, "private"))
    assert(fs.write(key .. ".pub", "public"))
    local driver = cloud_of { machines = { left } }
    gc.remove(store, driver, gc.find(store, driver, ours).garbage[1])
    assert.same({}, fs.list(store.folder .. "/ssh"))
    assert(fs.write(key, "of an older kiln"))
    gc.sweep_keys(store)
    assert.same({}, fs.list(store.folder .. "/ssh"))
  end)

  ---A machine of a release as another checkout's run labelled it.
  local function labelled(id, name, run_id, version)
    return { id = id, name = name, token = ("kl-%s-abcd-1"):format(run_id),
      address = "10.0.0." .. id, image = "i-" .. version, created = tonumber(id), tags = {
        kiln_project = ours, kiln_env = "staging", kiln_service = "app-staging",
        kiln_colour = name:match("blue") or "green", kiln_version = version,
        kiln_health = "8080 /health",
      } }
  end

  it("adopts what serves and what is kept, in its own environment, and removes neither", function()
    local driver = cloud_of {
      machines = { labelled("1", "app-staging-blue-7", "cccc0001", "v1"),
        labelled("2", "app-staging-green-8", "cccc0002", "v2") },
      images = { { id = "i-v2", name = "app-22", token = "kl-cccc0002-i",
        tags = { kiln_project = ours } } },
      balancers = { { id = "b1", name = "app-staging", ip = "10.0.0.9", members = { "2" } } },
    }
    local found = gc.find(store, driver, ours)
    assert.equal(4, #found.lost)
    assert.same({ "app-staging (staging): v2 serves on app-staging-green-8 behind balancer "
      .. "app-staging; app-staging-blue-7 is kept" },
      adopt.rows(store, driver, found.lost, "default"))
    local serving = store:serving("app-staging", "staging")
    local data = json.decode(serving.data)
    assert.same({ "v2", "app-22", "green", 8, 8080, "balancer" }, { serving.version, serving.image,
      serving.colour, data.serial, data.health.port, data.address.kind })
    assert.equal("v1", store:kept("app-staging", "staging").version)
    for list, rows in pairs(gc.find(store, driver, ours)) do assert.same({}, rows, list) end
  end)

  it("says plainly that it cannot tell what serves, and removes nothing then", function()
    local driver = cloud_of { machines = { labelled("1", "app-staging-blue-7", "cccc0001", "v1") } }
    local lines = adopt.rows(store, driver, gc.find(store, driver, ours).lost, "default")
    assert.matches("no address and no load balancer leads to app%-staging%-blue%-7, so kiln cannot",
      lines[1])
    local found = gc.find(store, driver, ours)
    assert.same({}, found.garbage)
    assert.same({ "machine app-staging-blue-7" }, names(found.undecided))
  end)

  it("takes in what another checkout put into service since", function()
    run("aaaa0001", "done")
    local old = made("machine", "aaaa0001", "1", "app-staging-blue-1")
    store:release_promote { run = "aaaa0001", service = "app-staging", env = "staging",
      version = "v0", image = "app-0", colour = "blue", cloud = "lists",
      data = json.encode { version = "v0", machines = { { id = old.id, name = old.name } },
        address = { id = "a1", kind = "address" } } }
    local driver = cloud_of {
      machines = { labelled("2", "app-staging-green-2", "cccc0002", "v2") },
      addresses = { { id = "a1", name = "app-staging", ip = "10.0.0.9", target = "2" } },
    }
    adopt.rows(store, driver, gc.find(store, driver, ours).lost, "default")
    assert.equal("v2", store:serving("app-staging", "staging").version)
    assert.is_nil(store:kept("app-staging", "staging")) -- its machine is gone
  end)
end)
