---Answers that say "done" and nothing else: a creation is then in doubt, never refused, and never
---sent again before what it made was looked for.
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

  it("is told from a whole one by the request", function()
    local cases = {
      { true, "GET", "/v2/droplets?tag_name=x", { droplets = {} } },
      { false, "GET", "/v2/droplets?tag_name=x", {} },
      { false, "GET", "/v2/droplets/3", { droplets = {} } },
      { true, "GET", "/v2/droplets/3", { droplet = { id = 3 } } },
      { false, "POST", "/v2/droplets", { droplets = {} } },
      { true, "POST", "/v2/droplets", { droplets = { { id = 3 } } } },
      { false, "POST", "/v2/droplets/3/actions", true },
      { true, "POST", "/v2/droplets/3/actions", { action = { id = 9 } } },
      { false, "POST", "/v2/reserved_ips", { reserved_ip = { ip = "" } } },
      { true, "POST", "/v2/load_balancers/x/droplets", true },
      { true, "DELETE", "/v2/tags/x", true },
    }
    for _, case in ipairs(cases) do
      local whole, method, path, answer = table.unpack(case, 1, 4)
      assert.equal(whole, answers.is_whole(method, path, answer), method .. " " .. path)
    end
  end)
end)
