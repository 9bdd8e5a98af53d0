local sim = require "providers.digitalocean.sim"
local do_account = require "spec.support.do_account"

local wanted = { name = "app", region = "nyc3", size = "s-1vcpu-1gb", image = "debian-12-x64" }

local function on_create(fault)
  fault.method, fault.path = "POST", "/v2/droplets"
  return do_account.new { faults = { fault }, latency = { create = 30 } }
end

local function total(account)
  return account:expect(200, "GET", "/v2/droplets").meta.total
end

describe("a placed fault", function()
  it("of every kind in the catalogue does what its entry says with the request", function()
    for _, entry in ipairs(sim.faults.catalogue) do
      local fault = {}
      for name, value in pairs(entry.example) do fault[name] = value end
      local account = on_create(fault)
      local status = account:call("POST", "/v2/droplets", wanted)
      local made = #account.sim.world.droplets.rows
      assert.equal(entry.effect and 1 or 0, made, entry.kind)
      assert.equal(entry.kind:find("^lost") ~= nil, status == nil, entry.kind)
      assert.equal(202, (account:call("POST", "/v2/droplets", wanted)), entry.kind)
    end
  end)

  it("hits the nth match of method, path and type, and as many as it says", function()
    local account = do_account.new { faults = {
      { method = "GET", path = "/v2/droplets/*", nth = 2, times = 2, kind = "status",
        status = 503 },
      { path = "/v2/**", type = "snapshot", kind = "try_again" },
    } }
    local id = account:droplet()
    local seen = {}
    for _ = 1, 4 do seen[#seen + 1] = account:call("GET", "/v2/droplets/" .. id) end
    assert.same({ 200, 503, 503, 200 }, seen)
    account:expect(201, "POST", "/v2/droplets/" .. id .. "/actions",
      { type = "rename", name = "x" })
    account:pass(1)
    account:expect(422, "POST", "/v2/droplets/" .. id .. "/actions", { type = "snapshot" })
  end)

  it("is refused when it is misspelled", function()
    for message, fault in pairs {
      ["no kind"] = { kind = "chaos" }, ["unknown field"] = { kind = "vanish", when = 1 },
      ["must be of type integer"] = { kind = "vanish", nth = "2" },
    } do
      local ok, err = pcall(do_account.new, { faults = { fault } })
      assert.is_false(ok)
      assert.is_truthy(err.message:find(message, 1, true), err.message)
    end
  end)

  it("loses the answer of a droplet that is there, found by its tag", function()
    local account = on_create { kind = "lost_after" }
    assert.is_nil(account:call("POST", "/v2/droplets",
      { name = "a", tags = { "run-7" }, region = "nyc3", size = "s-1vcpu-1gb",
        image = "debian-12-x64" }))
    assert.equal("lost_after", account.lost)
    assert.equal(1, account:expect(200, "GET", "/v2/droplets?tag_name=run-7").meta.total)
  end)

  it("ends an action errored, never, or late", function()
    local account = on_create { kind = "errored" }
    local made = account:expect(202, "POST", "/v2/droplets", wanted)
    account:pass(30)
    assert.equal("errored",
      account:expect(200, "GET", "/v2/actions/" .. made.links.actions[1].id).action.status)
    assert.equal(0, total(account))

    account = on_create { kind = "endless" }
    made = account:expect(202, "POST", "/v2/droplets", wanted)
    account:pass(86400)
    assert.equal("new",
      account:expect(200, "GET", "/v2/droplets/" .. made.droplet.id).droplet.status)

    account = on_create { kind = "slow", seconds = 300 }
    made = account:expect(202, "POST", "/v2/droplets", wanted)
    account:pass(299)
    assert.equal("new",
      account:expect(200, "GET", "/v2/droplets/" .. made.droplet.id).droplet.status)
  end)

  it("hides what was created, makes it vanish, or holds its address back", function()
    local account = on_create { kind = "unseen", seconds = 5 }
    local id = account:expect(202, "POST", "/v2/droplets", wanted).droplet.id
    account:expect(404, "GET", "/v2/droplets/" .. id)
    assert.equal(0, total(account))
    account:pass(5)
    account:expect(200, "GET", "/v2/droplets/" .. id)

    account = on_create { kind = "vanish", seconds = 10 }
    local made = account:expect(202, "POST", "/v2/droplets", wanted)
    account:pass(10)
    account:expect(404, "GET", "/v2/droplets/" .. made.droplet.id)
    account:expect(404, "GET", "/v2/actions/" .. made.links.actions[1].id)
    account:pass(3600)
    assert.equal(0, total(account))

    account = on_create { kind = "no_address", seconds = 10 }
    id = account:expect(202, "POST", "/v2/droplets", wanted).droplet.id
    account:pass(39)
    local droplet = account:expect(200, "GET", "/v2/droplets/" .. id).droplet
    assert.same({ "active", {} }, { droplet.status, droplet.networks.v4 })
    account:pass(1)
    assert.equal(2, #account:expect(200, "GET", "/v2/droplets/" .. id).droplet.networks.v4)
  end)

  it("lets a shutdown complete that the guest ignored", function()
    local account = do_account.new { faults = { { type = "shutdown", kind = "ignored" } } }
    local id = account:droplet()
    local act = "/v2/droplets/" .. id .. "/actions"
    local action = account:expect(201, "POST", act, { type = "shutdown" }).action
    account:pass(10)
    assert.equal("completed", account:expect(200, "GET", "/v2/actions/" .. action.id).action.status)
    assert.equal("active", account:expect(200, "GET", "/v2/droplets/" .. id).droplet.status)
    account:expect(201, "POST", act, { type = "power_off" })
    account:pass(10)
    assert.equal("off", account:expect(200, "GET", "/v2/droplets/" .. id).droplet.status)
  end)

  it("answers in HTML, in half of JSON, with 429, or late", function()
    local account = do_account.new { faults = {
      { path = "/v2/account", nth = 1, kind = "html", status = 504 },
      { path = "/v2/account", nth = 2, kind = "truncated" },
      { path = "/v2/account", nth = 3, kind = "rate_limit", retry_after = 7 },
      { path = "/v2/account", nth = 4, kind = "rate_limit" },
      { path = "/v2/account", nth = 5, kind = "delay", seconds = 20 },
    } }
    local status, body, answer = account:call("GET", "/v2/account")
    assert.same({ 504, nil, "text/html" }, { status, body, answer.headers["content-type"] })
    status, body = account:call("GET", "/v2/account")
    assert.same({ 200, nil }, { status, body })
    for _, after in ipairs { "7", false } do
      status, _, answer = account:call("GET", "/v2/account")
      assert.same({ 429, after }, { status, answer.headers["retry-after"] or false })
    end
    assert.equal(20, select(3, account:call("GET", "/v2/account")).delay)
  end)
end)
