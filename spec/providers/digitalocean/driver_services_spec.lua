---Load balancers, databases, DNS, firewalls, volumes on the simulator, in virtual time.
local crypto = require "rt.crypto"
local do_cloud = require "spec.support.do_cloud"
local error_ = require "kiln.error"
local scope = require "kiln.scope"
local timer = require "rt.timer"
local virtual = require "spec.support.virtual"

local function machines(cloud, count, first)
  local list, ids = {}, {}
  for index = 1, count do
    local number = (first or 1) + index - 1
    list[index] = { name = "app-" .. number, token = "kl-" .. number, image = "debian-12-x64",
      tags = { kiln_service = "app" } }
  end
  for index, row in ipairs(cloud.driver:create_machines(list)) do
    ids[index] = row.id
    cloud.driver:await_machine(row.id)
  end
  return ids
end

local function sorted(list)
  table.sort(list)
  return list
end

describe("a load balancer of DigitalOcean", function()
  local health = { path = "/health", port = 8080 }

  for _, count in ipairs { 5, 12 } do
    it(("swaps %d members, new ones first"):format(count), function()
      local _ <close> = virtual()
      local cloud = do_cloud.new { limits = { droplets = 50 } }
      local driver = cloud.driver
      local made = driver:create_balancer { name = "app", health = health, count = count }
      assert.equal(made.id, driver:create_balancer({ name = "app", health = health }).id)
      local up = driver:await_balancer(made.id)
      assert.matches("^%d+%.", up.ip)
      assert.equal(count > 5 and "kiln-front:app" or nil, up.tag)
      local old, new = machines(cloud, count), machines(cloud, count, 100)
      driver:set_members(made.id, old)
      assert.same(sorted(old), sorted(driver:balancer("app").members))
      local began = timer.now()
      driver:set_members(made.id, new)
      assert.same(sorted(new), sorted(driver:balancer("app").members))
      assert.is_true(timer.now() - began >= 6, "the new ones had no time to become healthy")
      assert.equal(1, cloud.count("POST", "^/v2/load_balancers$"))
      assert.equal(0, cloud.count("PUT", "^/v2/load_balancers"))
      driver:destroy_balancer(made.id)
      assert.is_nil(driver:balancer("app"))
    end)
  end

  it("waits while it processes previous actions, and when active comes before the address",
    function()
      local _ <close> = virtual()
      local cloud = do_cloud.new { faults = {
        { kind = "no_address", method = "POST", path = "/v2/load_balancers", seconds = 30 },
        { kind = "busy", method = "POST", path = "/v2/load_balancers/*/droplets", times = 3 },
      } }
      local made = cloud.driver:create_balancer { name = "app", health = health }
      assert.not_equal("", cloud.driver:await_balancer(made.id).ip)
      local ids = machines(cloud, 1)
      cloud.driver:set_members(made.id, ids)
      assert.same(ids, cloud.driver:balancer("app").members)
    end)

  it("is made once when the answer is lost", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { faults = {
      { kind = "lost_after", method = "POST", path = "/v2/load_balancers" } } }
    local made = cloud.driver:create_balancer { name = "app", health = health }
    assert.equal(made.id, cloud.driver:balancer("app").id)
    assert.equal(1, cloud.count("POST", "^/v2/load_balancers$"))
  end)
end)

describe("a managed database of DigitalOcean", function()
  it("is made once, comes online, and tells its secrets as secrets", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { faults = {
      { kind = "lost_after", method = "POST", path = "/v2/databases" } } }
    local made = cloud.driver:create_database { name = "app-db" }
    assert.equal("creating", made.state)
    local began = timer.now()
    local online = cloud.driver:await_database(made.id)
    assert.is_true(timer.now() - began < 1.02 * cloud.sim.world.latency.database + 1)
    assert.equal("online", online.state)
    assert.equal(made.id, cloud.driver:create_database({ name = "app-db" }).id)
    assert.equal(1, cloud.count("POST", "^/v2/databases$"))
    local secrets = cloud.driver:database_secrets(made.id)
    assert.is_true(crypto.is_secret(secrets.password) and crypto.is_secret(secrets.uri))
    assert.matches("BEGIN CERTIFICATE", secrets.ca, 1, true)
    for _, value in pairs(online) do
      assert.is_nil(tostring(value):find(crypto.reveal(secrets.password), 1, true))
    end
  end)

  it("lets machines in by tag and keeps the rules that are there", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new()
    local made = cloud.driver:create_database { name = "app-db" }
    local path = ("/v2/databases/%s/firewall"):format(made.id)
    cloud.driver.api:call("PUT", path, { rules = { { type = "ip_addr", value = "192.0.2.1" } } })
    cloud.driver:allow_database(made.id, "kiln_service", "app")
    cloud.driver:allow_database(made.id, "kiln_service", "app")
    local rules = cloud.driver.api:call("GET", path).rules
    assert.equal(2, #rules)
    assert.equal("192.0.2.1", rules[1].value)
    assert.equal("kiln-tag:kiln_5fservice:app", rules[2].value)
  end)

  it("lets real machines in by its rules, those that come later too", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new()
    local let_in = {}
    cloud.sim.world.machines = setmetatable({
      let_in = function(name, droplet) let_in[#let_in + 1] = name .. " " .. droplet.name end,
      stopped = function() return {} end,
    }, { __index = function() return function() end end }) -- everything else is done at once
    local made = cloud.driver:create_database { name = "app-db" }
    local function create(name, service)
      cloud.driver:create_machines { { name = name, token = "kl-" .. name, image = "debian-12-x64",
        tags = { kiln_service = service } } }
    end
    create("app-1", "app")
    create("web-1", "web")
    assert.same({}, let_in)
    cloud.driver:allow_database(made.id, "kiln_service", "app")
    assert.same({ "app-db app-1" }, let_in)
    create("web-2", "web")
    create("app-2", "app")
    assert.same({ "app-db app-1", "app-db app-2" }, let_in)
  end)

  it("that was accepted and goes away again is an error that says so", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { faults = {
      { kind = "vanish", method = "POST", path = "/v2/databases", seconds = 100 } } }
    local made = cloud.driver:create_database { name = "app-db" }
    local ok, err = pcall(cloud.driver.await_database, cloud.driver, made.id)
    assert.is_false(ok)
    assert.is_true(error_.is(err, "failed"), tostring(err))
  end)
end)

describe("DigitalOcean's network", function()
  it("lets the first that claims a record's name have it, also of two at the same time", function()
    local _ <close> = virtual()
    local account = do_cloud.new { faults = {
      { kind = "lost_after", method = "POST", path = "/v2/domains/*/records" } } }
    local driver = account.driver
    local function of(env)
      return { kiln_project = "0123", kiln_env = env, kiln_service = "app" }
    end
    driver:create_domain "example.com"
    assert.is_nil(driver:record_owner("example.com", "app"))
    assert.same(of "one", driver:claim_record("example.com", "app", of "one")) -- the answer is lost
    assert.same(of "one", driver:claim_record("example.com", "app", of "two"))
    assert.same(of "one", driver:record_owner("example.com", "app"))
    assert.is_nil(driver:record_owner("example.com", "@"))

    local owners = scope.all({ of "one", of "two", of "three" }, function(tags)
      return driver:claim_record("example.com", "@", tags)
    end)
    assert.same({ owners[1], owners[1], owners[1] }, owners)
    local rows = driver.api:list(
      "/v2/domains/example.com/records?type=TXT&name=_kiln.example.com", "domain_records")
    assert.equal(1, #rows)
  end)

  it("has records that are set once and changed in their place", function()
    local _ <close> = virtual()
    local driver = do_cloud.new({ faults = {
      { kind = "lost_after", method = "POST", path = "/v2/domains/*/records" } } }).driver
    driver:create_domain "example.com"
    driver:create_domain "example.com"
    local spec = { domain = "example.com", name = "app", data = "192.0.2.7", ttl = 60 }
    assert.is_true(driver:set_record(spec))
    assert.is_false(driver:set_record(spec))
    spec.data = "192.0.2.8"
    assert.is_true(driver:set_record(spec))
    local row = driver:record("example.com", "app", "A")
    assert.equal("192.0.2.8", row.data)
    assert.equal(60, row.ttl)
    assert.is_true(driver:set_record { domain = "example.com", name = "@", data = "192.0.2.9" })
    assert.equal("192.0.2.8", driver:record("example.com", "app", "A").data)
  end)

  it("has a firewall by tag whose rules are replaced", function()
    local _ <close> = virtual()
    local driver = do_cloud.new().driver
    local spec = { name = "app", key = "kiln_service", value = "app",
      open = { [22] = { "192.0.2.0/24" }, [8080] = true } }
    local made = driver:set_firewall(spec)
    spec.open[8080] = nil
    assert.equal(made.id, driver:set_firewall(spec).id)
    local rules = driver.api:call("GET", "/v2/firewalls/" .. made.id).firewall.inbound_rules
    assert.equal(1, #rules)
    assert.equal("22", rules[1].ports)
    assert.same({ "192.0.2.0/24" }, rules[1].sources.addresses)
  end)

  it("has VPCs, volumes and certificates, each once", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new()
    local driver = cloud.driver
    assert.equal(driver:create_vpc({ name = "app" }).id, driver:create_vpc({ name = "app" }).id)
    local volume = driver:create_volume { name = "data", gigabytes = 10 }
    local id = machines(cloud, 1)[1]
    driver:attach_volume(volume.id, id)
    assert.equal(id, driver:create_volume({ name = "data", gigabytes = 10 }).machine)
    driver:attach_volume(volume.id, nil)
    assert.is_nil(driver:create_volume({ name = "data", gigabytes = 10 }).machine)
    driver:create_domain "example.com"
    local wanted = { name = "app", domains = { "app.example.com" } }
    assert.equal(driver:create_certificate(wanted).id, driver:create_certificate(wanted).id)
  end)
end)
