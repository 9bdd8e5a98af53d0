---Answers that say "done" and nothing else: a creation is then in doubt, never refused, and never
---sent again before what it made was looked for.
local json = require "rt.json"
local answers = require "providers.digitalocean.answers"
local do_cloud = require "spec.support.do_cloud"
local virtual = require "spec.support.virtual"

local odd = { "empty", "array", "nulls", "truncated", "lost_after", "page" }

describe("an answer that lacks what was asked for", function()
  for _, kind in ipairs(odd) do
    it("leaves one address, which has its name: " .. kind, function()
      local _ <close> = virtual()
      local cloud = do_cloud.new()
      cloud.place { kind = kind, method = "POST", path = "/v2/reserved_ips" }
      local made = cloud.driver:create_address { name = "app", token = "kl-1-a" }
      local there = cloud.driver:addresses()
      assert.equal(1, #there)
      assert.equal(made.ip, there[1].ip)
      assert.equal(1, #cloud.sim.world.reserved_ips:list())
    end)

    it("hides no machine from whoever looks for one: " .. kind, function()
      local _ <close> = virtual()
      local cloud = do_cloud.new()
      local made = cloud.driver:create_machine { name = "app-1", token = "kl-1-b",
        image = "debian-12-x64" }
      cloud.place { kind = kind, method = "GET", path = "/v2/droplets" }
      assert.equal(made.id, cloud.driver:find_machine("kl-1-b").id)
    end)

    it("makes no second machine: " .. kind, function()
      local _ <close> = virtual()
      local cloud = do_cloud.new()
      cloud.place { kind = kind, method = "POST", path = "/v2/droplets" }
      cloud.driver:create_machine { name = "app-1", token = "kl-1-c", image = "debian-12-x64" }
      assert.equal(1, #cloud.driver:machines())
    end)
  end

  it("is told from a whole one by the request, and the field is named", function()
    local whole = { id = 3, name = "a", status = "new", tags = json.array {}, image = { id = 1 } }
    local function droplet(fields)
      local copy = {}
      for name, value in pairs(whole) do copy[name] = value end
      for name, value in pairs(fields) do copy[name] = value end
      return copy
    end
    local cases = {
      { nil, "GET", "/v2/droplets?tag_name=x", { droplets = json.array {}, meta = { total = 0 } } },
      { "without droplets", "GET", "/v2/droplets?tag_name=x", {} },
      { "without droplet", "GET", "/v2/droplets/3", { droplets = json.array {} } },
      { nil, "GET", "/v2/droplets/3", { droplet = whole } },
      { "without droplet.networks", "GET", "/v2/droplets/3", { droplet = droplet {
        status = "active" } } },
      { "without droplet.id", "GET", "/v2/droplets/3", { droplet = droplet { id = json.null } } },
      { "with a string as droplet.id, where a whole number belongs", "GET", "/v2/droplets/3",
        { droplet = droplet { id = "3" } } },
      { "with a list as droplet, where an object belongs", "GET", "/v2/droplets/3",
        { droplet = json.array {} } },
      { "without droplets[1]", "POST", "/v2/droplets", { droplets = json.array {} } },
      { "without droplets[2].id", "POST", "/v2/droplets", { droplets = json.array { whole,
        droplet { id = json.null } } } },
      { "without an object", "POST", "/v2/droplets/3/actions", true },
      { nil, "POST", "/v2/droplets/3/actions",
        { action = { id = 9, status = "in-progress", type = "shutdown" } } },
      { nil, "POST", "/v2/images/3/actions",
        { id = 9, status = "in-progress", type = "transfer" } },
      { "with a string as reserved_ip.ip, where a name belongs", "POST", "/v2/reserved_ips",
        { reserved_ip = { ip = "" } } },
      { nil, "POST", "/v2/load_balancers/x/droplets", true },
      { nil, "DELETE", "/v2/tags/x", true },
    }
    for _, case in ipairs(cases) do
      local wanted, method, path, answer = table.unpack(case, 1, 4)
      assert.equal(wanted, answers.problem(method, path, answer), method .. " " .. path)
    end
  end)

  it("may have null wherever it may have nothing", function()
    assert.same({ a = { b = 1 }, c = { json.null, {} } }, answers.without_nulls { a = { b = 1,
      d = json.null }, c = json.array { json.null, { e = json.null } }, f = json.null })
  end)

  it("says what a refusal is, though its message is no text", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new()
    cloud.place { kind = "status", method = "GET", path = "/v2/droplets/1", status = 422,
      body = '{"id": "unprocessable", "message": null}' }
    local ok, err = pcall(cloud.driver.machine, cloud.driver, "1")
    assert.is_false(ok)
    assert.equal("invalid", err.kind)
    assert.matches("GET /v2/droplets/1: 422 ", err.message, 1, true)
  end)
end)
