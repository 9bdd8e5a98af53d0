---`run.cloud` over the simulated DigitalOcean: what recipes call, journaled, in virtual time.
local fs = require "rt.fs"
local proc = require "rt.proc"
local do_cloud = require "spec.support.do_cloud"
local recipes = require "spec.support.recipes"
local virtual = require "spec.support.virtual"

local cloud

---A cloud of the spec's own, which outlives a run as an account does.
package.preload["providers.simulated"] = function()
  return { new = function() return cloud.driver end }
end

local function outcome_of(folder, text)
  folder:write("r.lua", text)
  return folder:start("r.lua", { cloud = "simulated" })
end

local function result_of(folder, text)
  local outcome = outcome_of(folder, text)
  assert.equal("done", outcome.status, tostring(outcome.error))
  return outcome.result
end

describe("run.cloud", function()
  it("has databases, fronts, records and firewalls, each made once", function()
    local _ <close> = virtual()
    local folder <close> = recipes.folder()
    cloud = do_cloud.new { faults = {
      { kind = "lost_after", method = "POST", path = "/v2/reserved_ips" },
      { kind = "lost_after", method = "POST", path = "/v2/databases" },
    } }
    local text = [[
      local m = {}
      function m.deploy(run)
        local db = run.cloud:database("app-db", { create = true })
        db:allow("kiln_service", "app")
        local front = run.cloud:address "app"
        local balancer = run.cloud:balancer("app", { health = { port = 80, path = "/" } })
        local said = run.cloud:record { domain = "example.com", name = "app", data = front.ip }
        run.cloud:firewall("app", { key = "kiln_service", value = "app", open = { [80] = true } })
        local secrets = db:secrets()
        return { db = db.host, ip = front.ip, lb = balancer.ip, said = said,
          shown = tostring(secrets.password), targets = #front:targets() }
      end
      return m
    ]]
    local first, again = result_of(folder, text), result_of(folder, text)
    assert.equal("<secret>", first.shown)
    assert.equal(0, first.targets)
    assert.matches("set$", first.said)
    assert.matches("unchanged$", again.said)
    for _, key in ipairs { "db", "ip", "lb" } do assert.equal(first[key], again[key]) end
    for _, path in ipairs { "databases", "reserved_ips", "load_balancers", "firewalls" } do
      assert.equal(1, cloud.count("POST", "^/v2/" .. path .. "$"), path)
    end
    local password = cloud.sim.world.databases.rows[1].users:get("doadmin").password
    for _, file in ipairs(assert(fs.glob(folder.dir .. "/.kiln/*"))) do
      local held = assert(proc.run { argv = { "grep", "-caF", password, file } })
      assert.not_equal(0, held.code, file .. " holds the password")
    end
  end)

  it("keeps the newest images, and those in use", function()
    local _ <close> = virtual()
    local folder <close> = recipes.folder()
    cloud = do_cloud.new()
    local result = result_of(folder, [[
      local m = {}
      function m.deploy(run)
        local base = run.cloud:base "debian-13"
        local images = {}
        for index = 1, 5 do
          local box = run.cloud:machines { names = { "box-" .. index }, image = base.id }[1]
          box:power_off()
          images[index] = run.cloud:snapshot(box, { name = ("app-0000000%d"):format(index) })
          box:destroy()
        end
        run.cloud:machines { names = { "uses-the-oldest" }, image = images[1].id }
        local young = run.cloud:retain_images("app", { keep = 2, days = 1 })
        local old = run.cloud:retain_images("app", { keep = 2 })
        return { young = young, old = old, first = run.cloud:find_image("app-00000001") ~= nil,
          second = run.cloud:find_image("app-00000002") ~= nil,
          last = run.cloud:find_image("app-00000005") ~= nil }
      end
      return m
    ]])
    assert.same({ young = 0, old = 2, first = true, second = false, last = true }, result)
  end)

  it("sends any request, and keeps the answer in the journal", function()
    local _ <close> = virtual()
    local folder <close> = recipes.folder()
    cloud = do_cloud.new()
    local result = result_of(folder, [[
      local m = {}
      function m.deploy(run)
        run.cloud:api("POST", "/v2/tags", { name = "mine" })
        return run.cloud:api("GET", "/v2/tags/mine").tag.name
      end
      return m
    ]])
    assert.equal("mine", result)
    local done = {}
    for _, event in ipairs(folder.events) do
      if event.type == "op.done" then done[#done + 1] = event.name end
    end
    assert.same({ "api POST /v2/tags", "api GET /v2/tags/mine" }, done)
  end)

  it("writes down that an address is gone when somebody else gave it back", function()
    local _ <close> = virtual()
    local folder <close> = recipes.folder()
    cloud = do_cloud.new()
    local text = [[
      local m = {}
      function m.deploy(run)
        local front = run.cloud:address "app"
        run.cloud:api("DELETE", "/v2/reserved_ips/" .. front.ip)
        front:assign(nil) -- to nowhere is where it points
        return front.ip
      end
      function m.again(run)
        local front = run.cloud:address "app"
        run.cloud:api("DELETE", "/v2/reserved_ips/" .. front.ip)
        front:assign "123"
      end
      return m
    ]]
    local function rows(state)
      local store <close> = require("kiln.store").open(folder.dir)
      return #store:ledger { kind = "address", state = state }
    end
    result_of(folder, text)
    assert.same({ 0, 1 }, { rows "live", rows "gone" })
    local failed = folder:start("r.lua", { cloud = "simulated", entry = "again" })
    assert.equal("not_found", failed.error.kind, failed.status)
    assert.same({ 0, 2 }, { rows "live", rows "gone" })
  end)

  it("refuses what the cloud has not before anything is made", function()
    local folder <close> = recipes.folder()
    cloud = { driver = { name = "bare", capabilities = {} } }
    for _, call in ipairs { 'database("x")', 'balancer("x")', 'address("x")', 'api("GET", "/x")',
      'record({ domain = "x", name = "x", data = "x" })' } do
      local outcome = outcome_of(folder, ([[
        local m = {}
        function m.deploy(run) return run.cloud:%s end
        return m
      ]]):format(call))
      assert.equal("failed", outcome.status, call)
      assert.equal("unsupported", outcome.error.kind, call)
    end
  end)
end)
