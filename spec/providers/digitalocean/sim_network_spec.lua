local json = require "kiln.json"
local do_account = require "spec.support.do_account"

describe("a simulated reserved IP", function()
  it("is assigned in its time, moves, and is the same under its old name", function()
    local account = do_account.new { latency = { assign = 4 } }
    local blue, green = account:droplet(), account:droplet()
    local made = account:expect(202, "POST", "/v2/reserved_ips", { droplet_id = blue })
    local ip = made.reserved_ip.ip
    assert.same({ json.null, true, "assign_ip", blue }, { made.reserved_ip.droplet,
      made.reserved_ip.locked, made.links.actions[1].rel, made.links.droplets[1].id })
    assert.equal("The floating IP already has a pending event.", account:expect(422, "POST",
      "/v2/reserved_ips/" .. ip .. "/actions", { type = "unassign" }).message)
    account:expect(422, "POST", "/v2/droplets/" .. blue .. "/actions", { type = "snapshot" })
    account:pass(4)
    assert.equal(blue, account:expect(200, "GET", "/v2/reserved_ips/" .. ip).reserved_ip.droplet.id)
    local action = account:expect(201, "POST", "/v2/floating_ips/" .. ip .. "/actions",
      { type = "assign", droplet_id = green }).action
    assert.same({ "assign_ip", "floating_ip" }, { action.type, action.resource_type })
    account:pass(4)
    local path = "/v2/floating_ips/" .. ip
    assert.equal("completed",
      account:expect(200, "GET", path .. "/actions/" .. action.id).action.status)
    assert.equal(green, account:expect(200, "GET", path).floating_ip.droplet.id)
    assert.equal(2, account:expect(200, "GET", path .. "/actions").meta.total)
  end)

  it("is refused for a droplet with an event, with another one, elsewhere, or without network",
    function()
      local account = do_account.new { latency = { assign = 0 } }
      local ip = account:expect(202, "POST", "/v2/reserved_ips", { region = "nyc3" }).reserved_ip.ip
      local path = "/v2/reserved_ips/" .. ip .. "/actions"
      local function refuse(id, message)
        local body = account:expect(422, "POST", path, { type = "assign", droplet_id = id })
        assert.is_truthy(body.message:find(message, 1, true), body.message)
      end
      local busy = account:expect(202, "POST", "/v2/droplets", { name = "a", region = "nyc3",
        size = "s-1vcpu-1gb", image = "debian-12-x64" }).droplet.id
      refuse(busy, "pending event")
      refuse(account:droplet { region = "fra1" }, "same region")
      refuse(account:droplet { public_networking = false }, "no public networking")
      local other = account:droplet()
      account:expect(202, "POST", "/v2/reserved_ips", { droplet_id = other })
      account:pass(1)
      refuse(other, "already has a reserved IP")
    end)

  it("is limited, and left without a droplet when that goes", function()
    local account = do_account.new { limits = { reserved_ips = 1 } }
    local id = account:droplet()
    local ip = account:expect(202, "POST", "/v2/reserved_ips", { droplet_id = id }).reserved_ip.ip
    account:expect(422, "POST", "/v2/reserved_ips", { region = "nyc3" })
    account:pass(60)
    account:expect(204, "DELETE", "/v2/droplets/" .. id)
    account:pass(60)
    assert.equal(json.null,
      account:expect(200, "GET", "/v2/reserved_ips/" .. ip).reserved_ip.droplet)
    account:expect(204, "DELETE", "/v2/reserved_ips/" .. ip)
    account:expect(404, "GET", "/v2/reserved_ips/" .. ip)
  end)
end)

local rule = { entry_protocol = "http", entry_port = 80, target_protocol = "http",
  target_port = 8080 }

local function balancer(fields)
  local body = { name = "lb", region = "nyc3", forwarding_rules = { rule } }
  for name, value in pairs(fields) do body[name] = value end
  return body
end

describe("a simulated load balancer", function()
  it("has no address until it is active, and takes one change at a time", function()
    local account = do_account.new { latency = { load_balancer = 60, load_balancer_update = 5 } }
    local blue, green = account:droplet(), account:droplet()
    local made = account:expect(202, "POST", "/v2/load_balancers",
      balancer { droplet_ids = { blue } }).load_balancer
    local path = "/v2/load_balancers/" .. made.id
    assert.same({ "new", "" }, { made.status, made.ip })
    local refused = account:expect(403, "POST", path .. "/droplets", { droplet_ids = { green } })
    assert.equal("forbidden", refused.id)
    account:pass(60)
    local active = account:expect(200, "GET", path).load_balancer
    assert.equal("active", active.status)
    assert.is_true(#active.ip > 6)
    account:expect(204, "POST", path .. "/droplets", { droplet_ids = { green } })
    account:expect(403, "DELETE", path .. "/droplets", { droplet_ids = { blue } })
    account:pass(5)
    account:expect(204, "DELETE", path .. "/droplets", { droplet_ids = { blue } })
    assert.same({ green }, account:expect(200, "GET", path).load_balancer.droplet_ids)
  end)

  it("loses with a PUT whatever the PUT leaves out", function()
    local account = do_account.new()
    local id = account:droplet()
    local made = account:expect(202, "POST", "/v2/load_balancers", balancer {
      droplet_ids = { id }, algorithm = "least_connections",
      health_check = { path = "/health", check_interval_seconds = 3 },
    }).load_balancer
    assert.same({ "/health", 3, 5 }, { made.health_check.path,
      made.health_check.check_interval_seconds, made.health_check.response_timeout_seconds })
    account:pass(90)
    local left = account:expect(200, "PUT", "/v2/load_balancers/" .. made.id,
      balancer {}).load_balancer
    assert.same({ {}, "round_robin", "/" },
      { left.droplet_ids, left.algorithm, left.health_check.path })
  end)

  it("follows a tag by itself", function()
    local account = do_account.new()
    local made = account:expect(202, "POST", "/v2/load_balancers",
      balancer { tag = "web" }).load_balancer
    local id = account:droplet { tags = { "web" } }
    account:droplet { tags = { "web" }, region = "fra1" }
    account:pass(90)
    local path = "/v2/load_balancers/" .. made.id
    assert.same({ id }, account:expect(200, "GET", path).load_balancer.droplet_ids)
    account:expect(422, "POST", path .. "/droplets", { droplet_ids = { id } })
    account:expect(204, "DELETE", "/v2/droplets/" .. id)
    account:pass(10)
    assert.same({}, account:expect(200, "GET", path).load_balancer.droplet_ids)
  end)

  it("is refused with ids and a tag, without rules, or with more than 10 ids", function()
    local account = do_account.new()
    local id = account:droplet()
    local eleven = {}
    for index = 1, 11 do eleven[index] = id end
    for _, fields in ipairs { { tag = "a", droplet_ids = { id } }, { droplet_ids = eleven },
      { forwarding_rules = json.array {} }, { droplet_ids = { 1 } } } do
      account:expect(422, "POST", "/v2/load_balancers", balancer(fields))
    end
  end)

  it("ends errored, or stays without an address, as a fault has it", function()
    for kind, seen in pairs { errored = "errored", endless = "new", no_address = "active" } do
      local account = do_account.new { faults = { { path = "/v2/load_balancers", kind = kind } } }
      local made = account:expect(202, "POST", "/v2/load_balancers", balancer { tag = "a" })
      account:pass(95)
      local later = account:expect(200, "GET", "/v2/load_balancers/" .. made.load_balancer.id)
      assert.same({ seen, "" }, { later.load_balancer.status, later.load_balancer.ip })
    end
  end)
end)

describe("a simulated domain", function()
  it("has name servers from the start, and its records by whole name", function()
    local account = do_account.new()
    account:expect(201, "POST", "/v2/domains", { name = "Example.com" })
    account:expect(422, "POST", "/v2/domains", { name = "example.com" })
    local records = "/v2/domains/example.com/records"
    assert.equal(3, account:expect(200, "GET", records .. "?type=NS").meta.total)
    local record = account:expect(201, "POST", records,
      { type = "A", name = "www", data = "192.0.2.1" }).domain_record
    assert.same({ 1800, json.null }, { record.ttl, record.priority })
    account:expect(422, "POST", records, { type = "A", name = "www", data = "nowhere" })
    assert.equal(1, account:expect(200, "GET", records .. "?name=www.example.com").meta.total)
    assert.equal(0, account:expect(200, "GET", records .. "?name=www").meta.total)
    local path = records .. "/" .. record.id
    account:expect(200, "PATCH", path, { ttl = 60 })
    assert.same({ 60, "192.0.2.2" }, (function()
      local one = account:expect(200, "PUT", path, { data = "192.0.2.2" }).domain_record
      return { one.ttl, one.data }
    end)())
    account:expect(204, "DELETE", path)
    account:expect(404, "GET", path)
    account:expect(204, "DELETE", "/v2/domains/example.com")
  end)
end)

describe("a simulated firewall", function()
  it("covers droplets by id and by tag, and settles after a while", function()
    local account = do_account.new()
    local one, two = account:droplet(), account:droplet { tags = { "web" } }
    local made = account:expect(202, "POST", "/v2/firewalls", {
      name = "fw", droplet_ids = { one }, inbound_rules = {
        { protocol = "tcp", ports = "22", sources = { addresses = { "0.0.0.0/0" } } } },
    }).firewall
    assert.same({ "waiting", one }, { made.status, made.pending_changes[1].droplet_id })
    account:expect(409, "POST", "/v2/firewalls",
      { name = "fw", inbound_rules = made.inbound_rules })
    account:pass(2)
    local path = "/v2/firewalls/" .. made.id
    assert.equal("succeeded", account:expect(200, "GET", path).firewall.status)
    account:expect(422, "POST", path .. "/tags", { tags = { "none" } })
    account:expect(204, "POST", path .. "/tags", { tags = { "web" } })
    for _, id in ipairs { one, two } do
      assert.equal(1,
        account:expect(200, "GET", "/v2/droplets/" .. id .. "/firewalls").meta.total)
    end
    account:expect(204, "DELETE", path .. "/droplets", { droplet_ids = { one } })
    assert.equal(0, account:expect(200, "GET", "/v2/droplets/" .. one .. "/firewalls").meta.total)
  end)
end)
