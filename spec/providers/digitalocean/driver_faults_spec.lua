---The driver under every fault that the simulator knows: each ends well, or in an error that says
---what happened; nothing is ever made twice.
local crypto = require "rt.crypto"
local do_cloud = require "spec.support.do_cloud"
local error_ = require "kiln.error"
local simulator = require "providers.digitalocean.sim"
local virtual = require "spec.support.virtual"

local function machine(index)
  return { name = "app-" .. index, token = "kl-spec-" .. index, image = "debian-12-x64",
    tags = { kiln_service = "app" }, user_data = "#cloud-config\n{}\n" }
end

---Makes two machines, freezes the second, moves an address to the first: all that a roll does.
local function roll(cloud)
  local driver = cloud.driver
  local rows = driver:create_machines { machine(1), machine(2) }
  for _, row in ipairs(rows) do driver:await_machine(row.id) end
  driver:power_off(rows[2].id)
  local image = driver:snapshot { machine = rows[2].id, name = "app-00aa11bb", token = "kl-spec-i",
    data = { inputs = "abc" } }
  local address = driver:create_address { name = "app" }
  driver:assign_address(address.id, rows[1].id)
  driver:destroy_machine(rows[2].id)
  return rows[1], image
end

---What must be true after a roll, however it came about.
local function check(cloud, kept, image)
  local world = cloud.sim.world
  cloud.sim:catch_up()
  local left = {}
  for _, droplet in ipairs(world.droplets.rows) do
    if not droplet.dying then left[#left + 1] = tostring(droplet.id) end
  end
  assert.same({ kept.id }, left)
  local snapshots = 0
  for _, row in ipairs(world.images.rows) do
    snapshots = snapshots + (row.type == "snapshot" and 1 or 0)
  end
  assert.equal(1, snapshots)
  assert.equal(1, #world.reserved_ips.rows)
  assert.equal(kept.id, cloud.driver:address("app").target)
  assert.same({ inputs = "abc" }, cloud.driver:find_image({ token = "kl-spec-i" }).data)
  assert.equal(image.id, cloud.driver:find_image({ name = "app-00aa11bb" }).id)
end

---Requests of a roll, each of them a place for a fault.
local places = {
  { "POST", "/v2/droplets" }, { "GET", "/v2/droplets" }, { "GET", "/v2/droplets/*" },
  { "POST", "/v2/droplets/*/actions", "shutdown" },
  { "POST", "/v2/droplets/*/actions", "snapshot" }, { "GET", "/v2/actions/*" },
  { "GET", "/v2/droplets/*/snapshots" }, { "POST", "/v2/tags" },
  { "POST", "/v2/tags/*/resources" }, { "POST", "/v2/reserved_ips" },
  { "POST", "/v2/reserved_ips/*/actions" }, { "GET", "/v2/reserved_ips" },
  { "DELETE", "/v2/droplets/*" },
}

---Whether an action or a creation may end differently; those have tests of their own below.
local endings = { vanish = true, errored = true, endless = true, unauthorized = true }

local function applies(entry, place)
  if endings[entry.kind] then return false end
  if entry.on == "create" then
    return place[1] == "POST" and (place[2] == "/v2/droplets" or place[2] == "/v2/reserved_ips")
  end
  if entry.on == "action" then return place[2]:find("actions$") and place[1] == "POST" end
  if entry.kind == "busy" then return false end -- load balancers
  return true
end

---What the world does to a request that DigitalOcean's words would deny for another reason.
local function is_sensible(entry, place)
  local refusing = entry.kind == "pending" or entry.kind == "try_again"
  return not refusing or place[1] ~= "GET" and not place[2]:find("^/v2/tags")
end

describe("a roll on DigitalOcean", function()
  it("is as it should be without any fault", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new()
    check(cloud, roll(cloud))
  end)

  for _, entry in ipairs(simulator.faults.catalogue) do
    it(("survives '%s' at every place: %s"):format(entry.kind, entry.what), function()
      if endings[entry.kind] or entry.kind == "busy" then return end
      local tried = 0
      for _, place in ipairs(places) do
        for nth = 1, place[2] == "/v2/actions/*" and 2 or 1 do
          if applies(entry, place) and is_sensible(entry, place) then
            tried = tried + 1
            local _ <close> = virtual()
            local fault = { method = place[1], path = place[2], type = place[3], nth = nth }
            for name, value in pairs(entry.example) do fault[name] = value end
            local cloud = do_cloud.new { faults = { fault } }
            local ok, err = pcall(function() check(cloud, roll(cloud)) end)
            assert.is_true(ok, ("%s at %s %s, the %d.: %s"):format(entry.kind, place[1], place[2],
              nth, tostring(err)))
          end
        end
      end
      assert.is_true(tried > 0)
    end)
  end

  it("survives an error or an HTML page that hides a creation", function()
    for _, place in ipairs(places) do
      for _, kind in ipairs { "status", "html" } do
        if place[1] == "POST" then
          local _ <close> = virtual()
          local cloud = do_cloud.new { faults = { { kind = kind, method = "POST", path = place[2],
            type = place[3], status = 502, after = true } } }
          check(cloud, roll(cloud))
        end
      end
    end
  end)
end)

local function fails(kind, words, faults, action)
  local _ <close> = virtual()
  local cloud = do_cloud.new { faults = faults }
  local ok, err = pcall(action, cloud)
  assert.is_false(ok)
  assert.is_true(error_.is(err, kind), tostring(err))
  for _, one in ipairs(words) do assert.matches(one, err.message, 1, true) end
  return cloud
end

describe("what DigitalOcean gives up", function()
  it("is named: a machine that was accepted and vanished", function()
    fails("failed", { "machine app-1", "was accepted" }, {
      { kind = "vanish", method = "POST", path = "/v2/droplets", seconds = 20 },
    }, function(cloud)
      cloud.driver:await_machine(cloud.driver:create_machine(machine(1)).id)
    end)
  end)

  it("is named: a create event that failed", function()
    fails("failed", { "machine app-1", "was accepted" }, {
      { kind = "errored", method = "POST", path = "/v2/droplets" },
    }, function(cloud)
      cloud.driver:await_machine(cloud.driver:create_machine(machine(1)).id)
    end)
  end)

  it("is named: a snapshot that errored, with its action", function()
    fails("failed", { "snapshot app-00aa11bb", "errored", "action" }, {
      { kind = "errored", method = "POST", path = "/v2/droplets/*/actions", type = "snapshot" },
    }, roll)
  end)

  it("is named: an action that never ends", function()
    fails("timeout", { "198.19.", "not within 400 s", "doctl compute action get" }, {
      { kind = "endless", method = "POST", path = "/v2/reserved_ips/*/actions" },
    }, roll)
  end)

  it("is switched off by force when the guest ignores the shutdown", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { faults = {
      { kind = "ignored", method = "POST", path = "/v2/droplets/*/actions", type = "shutdown" } } }
    check(cloud, roll(cloud))
    assert.equal(1 + 1 + 1, cloud.count("POST", "^/v2/droplets/%d+/actions$"))
  end)

  it("is the whole run's end when the token is refused, and says whose token", function()
    local cloud = fails("auth", { "refuses the token from the options", "Unable to authenticate" },
      { { kind = "unauthorized", method = "POST", path = "/v2/droplets" } }, roll)
    assert.equal(1, cloud.count("POST", "^/v2/droplets$"))
  end)

  it("is never a token in the message", function()
    local token = "dop_v1_" .. ("ab"):rep(32)
    local cloud = do_cloud.new { token = "another", driver = { token = crypto.secret(token) } }
    local ok, err = pcall(cloud.driver.check, cloud.driver)
    assert.is_false(ok)
    assert.is_true(error_.is(err, "auth"))
    assert.equal("digitalocean", err.cloud)
    assert.is_nil(tostring(err):find(token, 1, true))
  end)

  it("is not asked again blindly: limits and refusals are raised at once", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { limits = { droplets = 0 } }
    local ok, err = pcall(cloud.driver.create_machine, cloud.driver, machine(1))
    assert.is_false(ok)
    assert.is_true(error_.is(err, "limit"), tostring(err))
    assert.equal(1, cloud.count("POST", "^/v2/droplets$"))
  end)
end)
