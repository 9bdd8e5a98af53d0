local crypto = require "kiln.crypto"
local do_account = require "spec.support.do_account"

local function cluster(fields)
  local body = { name = "app-db", engine = "pg", version = "16", region = "nyc3",
    size = "db-s-1vcpu-1gb", num_nodes = 1 }
  for name, value in pairs(fields or {}) do body[name] = value end
  return body
end

describe("a simulated database", function()
  it("has its connection from the start and is online after a while", function()
    local account = do_account.new { latency = { database = 180 } }
    local made = account:expect(201, "POST", "/v2/databases", cluster { tags = { "db" } }).database
    assert.same({ "creating", "doadmin", 25060, true }, { made.status, made.connection.user,
      made.connection.port, made.connection.ssl })
    assert.is_truthy(made.connection.uri:find(made.connection.password, 1, true))
    assert.equal("cluster name is not available",
      account:expect(422, "POST", "/v2/databases", cluster()).message)
    account:pass(180)
    local path = "/v2/databases/" .. made.id
    assert.equal("online", account:expect(200, "GET", path).database.status)
    assert.equal(1, #account:expect(200, "GET", "/v2/databases?tag_name=db").databases)
    assert.matches("BEGIN CERTIFICATE",
      crypto.unbase64(account:expect(200, "GET", path .. "/ca").ca.certificate))
    account:expect(204, "DELETE", path)
    assert.equal("cluster not found", account:expect(404, "GET", path).message)
  end)

  it("has a firewall that is replaced as a whole", function()
    local account = do_account.new()
    local path = "/v2/databases/"
      .. account:expect(201, "POST", "/v2/databases", cluster()).database.id .. "/firewall"
    account:expect(204, "PUT", path, { rules = { { type = "tag", value = "blue" },
      { type = "ip_addr", value = "192.0.2.1" } } })
    account:expect(204, "PUT", path, { rules = { { type = "tag", value = "web" } } })
    local rules = account:expect(200, "GET", path).rules
    assert.same({ 1, "tag", "web" }, { #rules, rules[1].type, rules[1].value })
    account:expect(422, "PUT", path, { rules = { { type = "planet", value = "mars" } } })
  end)

  it("has users and databases, and new passwords for the asking", function()
    local account = do_account.new()
    local base = "/v2/databases/"
      .. account:expect(201, "POST", "/v2/databases", cluster()).database.id
    local user = account:expect(201, "POST", base .. "/users", { name = "app" }).user
    account:expect(422, "POST", base .. "/users", { name = "app" })
    local again = account:expect(200, "GET", base .. "/users/app").user
    assert.equal(user.password, again.password)
    local reset = account:expect(200, "POST", base .. "/users/app/reset_auth", {}).user
    assert.not_equal(user.password, reset.password)
    account:expect(422, "DELETE", base .. "/users/doadmin")
    account:expect(204, "DELETE", base .. "/users/app")
    account:expect(201, "POST", base .. "/dbs", { name = "app" })
    assert.equal(2, #account:expect(200, "GET", base .. "/dbs").dbs)
    account:expect(501, "GET", base .. "/pools")
  end)
end)

describe("a simulated volume", function()
  it("is attached and detached by actions", function()
    local account = do_account.new { latency = { attach = 4 } }
    local id = account:droplet()
    local volume = account:expect(201, "POST", "/v2/volumes",
      { name = "data", region = "nyc3", size_gigabytes = 10 }).volume
    account:expect(409, "POST", "/v2/volumes",
      { name = "data", region = "nyc3", size_gigabytes = 10 })
    local path = "/v2/volumes/" .. volume.id
    local action = account:expect(202, "POST", path .. "/actions",
      { type = "attach", droplet_id = id }).action
    account:pass(4)
    assert.equal("completed",
      account:expect(200, "GET", path .. "/actions/" .. action.id).action.status)
    assert.same({ volume.id }, account:expect(200, "GET", "/v2/droplets/" .. id).droplet.volume_ids)
    account:expect(409, "DELETE", path)
    account:expect(201, "POST", path .. "/snapshots", { name = "s" })
    assert.equal(1, account:expect(200, "GET", "/v2/snapshots?resource_type=volume").meta.total)
    account:expect(202, "POST", "/v2/volumes/actions",
      { type = "detach", droplet_id = id, volume_name = "data", region = "nyc3" })
    account:pass(4)
    account:expect(204, "DELETE", "/v2/volumes?name=data&region=nyc3")
  end)
end)

describe("a simulated certificate", function()
  it("is pending until verified, and kept while a load balancer uses it", function()
    local account = do_account.new { latency = { certificate = 20 } }
    local wanted = { name = "c", type = "lets_encrypt", dns_names = { "www.example.com" } }
    account:expect(422, "POST", "/v2/certificates", wanted)
    account:expect(201, "POST", "/v2/domains", { name = "example.com" })
    local made = account:expect(201, "POST", "/v2/certificates", wanted).certificate
    assert.equal("pending", made.state)
    account:pass(20)
    local path = "/v2/certificates/" .. made.id
    assert.equal("verified", account:expect(200, "GET", path).certificate.state)
    local balancer = account:expect(202, "POST", "/v2/load_balancers", { name = "lb",
      region = "nyc3", tag = "web", forwarding_rules = { { entry_protocol = "https",
        entry_port = 443, target_protocol = "http", target_port = 80, certificate_id = made.id } },
    }).load_balancer
    account:expect(403, "DELETE", path)
    account:expect(204, "DELETE", "/v2/load_balancers/" .. balancer.id)
    account:expect(204, "DELETE", path)
  end)
end)

describe("a simulated project", function()
  it("holds what was put into it; the default one the rest", function()
    local account = do_account.new()
    local id = account:droplet()
    local urn = "do:droplet:" .. id
    local made = account:expect(201, "POST", "/v2/projects",
      { name = "site", purpose = "Web Application", environment = "Production" }).project
    account:expect(409, "POST", "/v2/projects", { name = "site", purpose = "x" })
    local path = "/v2/projects/" .. made.id
    assert.equal(urn,
      account:expect(200, "GET", "/v2/projects/default/resources").resources[1].urn)
    assert.equal("assigned", account:expect(200, "POST", path .. "/resources",
      { resources = { urn } }).resources[1].status)
    assert.equal(0, account:expect(200, "GET", "/v2/projects/default/resources").meta.total)
    account:expect(412, "DELETE", path)
    account:expect(412, "DELETE", "/v2/projects/default")
  end)
end)

describe("a simulated VPC", function()
  it("is there by default in each region, and kept while it has members", function()
    local account = do_account.new()
    account:droplet()
    local vpc = account:expect(200, "GET", "/v2/vpcs").vpcs[1]
    assert.same({ "default-nyc3", true }, { vpc.name, vpc.default })
    local own = account:expect(201, "POST", "/v2/vpcs", { name = "own", region = "nyc3" }).vpc
    local id = account:droplet { vpc_uuid = own.id }
    assert.equal(own.id, account:expect(200, "GET", "/v2/droplets/" .. id).droplet.vpc_uuid)
    account:expect(403, "DELETE", "/v2/vpcs/" .. own.id)
    account:expect(403, "DELETE", "/v2/vpcs/" .. vpc.id)
    account:expect(422, "POST", "/v2/droplets", { name = "a", region = "fra1",
      size = "s-1vcpu-1gb", image = "debian-12-x64", vpc_uuid = own.id })
  end)
end)
