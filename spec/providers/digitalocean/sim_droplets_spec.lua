local json = require "kiln.json"
local do_account = require "spec.support.do_account"

local wanted = { name = "app", region = "nyc3", size = "s-1vcpu-1gb", image = "debian-12-x64" }

local function with(fields)
  local body = {}
  for name, value in pairs(wanted) do body[name] = value end
  for name, value in pairs(fields) do body[name] = value end
  return body
end

describe("a simulated droplet", function()
  it("is new and locked without addresses, then active with them, its action done", function()
    local account = do_account.new { latency = { create = 33 } }
    local made = account:expect(202, "POST", "/v2/droplets", with { tags = { "run-1" } })
    local id, action = made.droplet.id, made.links.actions[1]
    assert.same({ "new", true, {} },
      { made.droplet.status, made.droplet.locked, made.droplet.networks.v4 })
    assert.equal("create", action.rel)
    account:pass(32)
    assert.equal("in-progress",
      account:expect(200, "GET", "/v2/actions/" .. action.id).action.status)
    account:pass(1)
    assert.equal("completed", account:expect(200, "GET", "/v2/actions/" .. action.id).action.status)
    local droplet = account:expect(200, "GET", "/v2/droplets/" .. id).droplet
    assert.same({ "active", false }, { droplet.status, droplet.locked })
    assert.same({ "private", "public" },
      { droplet.networks.v4[1].type, droplet.networks.v4[2].type })
  end)

  it("is refused for what does not fit, and nothing is made", function()
    local account = do_account.new { limits = { droplets = 2 } }
    for message, fields in pairs {
      ["invalid size"] = { size = "s-99" }, ["invalid region"] = { region = "mars1" },
      ["not available in this region"] = { region = "nyc2" },
      ["invalid image"] = { image = "my-snapshot" }, ["hostname characters"] = { name = "a_b" },
      ["invalid key identifiers"] = { ssh_keys = { "aa:bb" } },
      ["User data is too large"] = { user_data = ("x"):rep(65537) },
      ["exceed your droplet limit"] = { name = json.null, names = { "a", "b", "c" } },
      ["names must have between"] = { names = json.array {} },
      ["name is invalid"] = { name = 7 }, ["tags is invalid"] = { tags = "one" },
      ["Tag name is invalid"] = { tags = { "a b" } },
    } do
      local body = account:expect(422, "POST", "/v2/droplets", with(fields))
      assert.equal("unprocessable_entity", body.id)
      assert.is_truthy(body.message:find(message, 1, true), body.message)
    end
    assert.equal(0, account:expect(200, "GET", "/v2/droplets").meta.total)
    account:expect(202, "POST", "/v2/droplets", with { user_data = ("x"):rep(65536) })
  end)

  it("comes several at a time, up to 10, and two may have the same name", function()
    local account = do_account.new()
    local made = account:expect(202, "POST", "/v2/droplets",
      with { names = { "a", "a", "b" }, tags = { "T" }, name = json.null })
    assert.same({ 3, 3 }, { #made.droplets, #made.links.actions })
    assert.equal(3, account:expect(200, "GET", "/v2/droplets?tag_name=t").meta.total)
    assert.equal(2, account:expect(200, "GET", "/v2/droplets?name=A").meta.total)
    account:expect(422, "GET", "/v2/droplets?name=A&tag_name=t")
  end)

  it("tolerates null, extra and repeated keys, text for ids, and a slash at the end", function()
    local account = do_account.new()
    local answer = account.sim:answer {
      method = "POST", path = "/v2/droplets/", headers = { authorization = "Bearer x" },
      body = '{"name":"x","name":"app","region":"nyc3","size":"s-1vcpu-1gb","ssh_keys":null,'
        .. '"image":"69440000","tags":null,"backups":false,"private_networking":false,"new":{}}',
    }
    assert.equal(202, answer.status)
    assert.equal("app", json.decode(answer.body).droplet.name)
  end)

  it("takes one event at a time; a second is refused until the first is done", function()
    local account = do_account.new { latency = { off = 7 } }
    local id = account:droplet()
    local act = "/v2/droplets/" .. id .. "/actions"
    account:expect(201, "POST", act, { type = "shutdown" })
    local refused = account:expect(422, "POST", act, { type = "snapshot" })
    assert.equal("Droplet already has a pending event.", refused.message)
    assert.is_true(account:expect(200, "GET", "/v2/droplets/" .. id).droplet.locked)
    account:pass(7)
    assert.equal("off", account:expect(200, "GET", "/v2/droplets/" .. id).droplet.status)
    refused = account:expect(422, "POST", act, { type = "power_off" })
    assert.equal("Droplet is already powered off", refused.message)
  end)

  it("goes off when its guest powers itself off, without any action", function()
    local account = do_account.new()
    local id = account:droplet()
    account.sim:power_off(id)
    assert.equal("off", account:expect(200, "GET", "/v2/droplets/" .. id).droplet.status)
    assert.equal(1, account:expect(200, "GET", "/v2/droplets/" .. id .. "/actions").meta.total)
  end)

  it("gives a snapshot that shows when it is complete, and boots in its region only", function()
    local account = do_account.new { latency = { snapshot = 50 } }
    local id = account:droplet()
    local path = "/v2/droplets/" .. id
    local action = account:expect(201, "POST", path .. "/actions",
      { type = "snapshot", name = "one" }).action
    assert.equal(id, action.resource_id)
    account:pass(49)
    assert.equal(0, account:expect(200, "GET", path .. "/snapshots").meta.total)
    account:pass(1)
    local image = account:expect(200, "GET", path .. "/snapshots").snapshots[1]
    local snapshot = account:expect(200, "GET", "/v2/snapshots?resource_type=droplet").snapshots[1]
    assert.same({ tostring(image.id), tostring(id), "one" },
      { snapshot.id, snapshot.resource_id, snapshot.name })
    assert.same({ image.id }, account:expect(200, "GET", path).droplet.snapshot_ids)
    account:expect(202, "POST", "/v2/droplets", with { image = image.id })
    account:expect(422, "POST", "/v2/droplets", with { image = "one" })
    account:expect(422, "POST", "/v2/droplets", with { image = image.id, region = "fra1" })
    account:expect(422, "POST", "/v2/droplets",
      with { image = image.id, size = "s-1vcpu-512mb-10gb" })
    account:expect(201, "POST", "/v2/images/" .. image.id .. "/actions",
      { type = "transfer", region = "fra1" })
    account:pass(600)
    assert.same({ "nyc3", "fra1" },
      account:expect(200, "GET", "/v2/images/" .. image.id).image.regions)
    account:expect(202, "POST", "/v2/droplets", with { image = image.id, region = "fra1" })
    account:expect(204, "DELETE", "/v2/images/" .. image.id)
    account:expect(404, "GET", "/v2/snapshots/" .. image.id)
    account:expect(403, "DELETE", "/v2/images/69440000")
  end)

  it("answers for a while after it was destroyed, by id or by tag", function()
    local account = do_account.new { latency = { destroy = 4 } }
    local id = account:droplet { tags = { "blue" } }
    account:droplet { tags = { "green" } }
    account:expect(204, "DELETE", "/v2/droplets?tag_name=blue")
    account:expect(200, "GET", "/v2/droplets/" .. id)
    account:expect(422, "DELETE", "/v2/droplets/" .. id)
    account:pass(4)
    account:expect(404, "GET", "/v2/droplets/" .. id)
    account:expect(404, "DELETE", "/v2/droplets/" .. id)
    assert.equal(1, account:expect(200, "GET", "/v2/droplets").meta.total)
  end)
end)
