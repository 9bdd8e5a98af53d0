---The driver on the simulator, in virtual time: an hour of cloud passes in milliseconds.
local timer = require "rt.timer"
local conformance = assert(loadfile("spec/providers/conformance.lua", "t", _ENV))()
local do_cloud = require "spec.support.do_cloud"
local error_ = require "kiln.error"
local scope = require "kiln.scope"
local virtual = require "spec.support.virtual"

conformance("the DigitalOcean cloud", function()
  timer.virtual()
  return do_cloud.new({ limits = { droplets = 50 } }).driver
end, {
  base = "debian-12-x64", many = 12, after = timer.real,
})

local function specs(count, fields)
  local list = {}
  for index = 1, count do
    list[index] = { name = "app-blue-1-" .. index, token = "kl-spec-" .. index,
      image = "debian-12-x64", user_data = "#cloud-config\n{}\n", tags = { kiln_service = "app" } }
    for key, value in pairs(fields or {}) do list[index][key] = value end
  end
  return list
end

local function failure(kind, call, ...)
  local ok, err = pcall(call, ...)
  assert.is_false(ok)
  assert.is_true(error_.is(err, kind), tostring(err))
  return err.message
end

describe("a fleet on DigitalOcean", function()
  it("is one POST for ten, and one list a tick for all who wait", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { limits = { droplets = 60 }, latency = { create = 33 } }
    local rows = cloud.driver:create_machines(specs(50))
    assert.equal(50, #rows)
    assert.equal(5, cloud.count("POST", "^/v2/droplets$"))
    local before, began = #cloud.seen, timer.now()
    scope.all(rows, function(row)
      local up = cloud.driver:await_machine(row.id)
      assert.equal("running", up.state)
      assert.equal(row.name, up.name)
    end)
    assert.is_true(#cloud.seen - before < 40, (#cloud.seen - before) .. " requests")
    assert.is_true(timer.now() - began < 34, "noticed late")
  end)

  it("has what the recipe asks for, and the project's key", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { driver = { region = "nyc3", monitoring = true } }
    local public = "ssh-ed25519 " ..
      "AAAAC3NzaC1lZDI1NTE5AAAAIJ5vBfyeLmvWm2VsFgQXD8Ee2H3XLhUu1cNmZAxOG1Cb kiln"
    local list = specs(2, { user_public = public, size = "s-2vcpu-2gb" })
    cloud.driver:create_machines(list)
    local droplet = cloud.driver.api:call("GET", "/v2/droplets").droplets[1]
    assert.equal("nyc3", droplet.region.slug)
    assert.equal("s-2vcpu-2gb", droplet.size_slug)
    assert.same({ kiln_service = "app" }, cloud.driver:find_machine("kl-spec-1").tags)
    assert.equal(0, cloud.count("GET", "^/v2/account/keys$"), "keys by fingerprint only")
    assert.equal(1, #cloud.driver.api:call("GET", "/v2/account/keys").ssh_keys)
  end)

  it("refuses user-data that is too long before anything is sent", function()
    local cloud = do_cloud.new()
    assert.matches("65537 bytes", failure("limit", cloud.driver.create_machines, cloud.driver,
      specs(1, { user_data = ("x"):rep(65537) })), 1, true)
    assert.equal(0, #cloud.seen)
  end)

  it("says everything that is wrong at once, and makes nothing", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { limits = { droplets = 3 }, driver = { region = "mars1" } }
    local message = failure("invalid", cloud.driver.preflight, cloud.driver, {
      names = { "good-name", "bad_name" }, machines = 4, size = "s-99vcpu", image = "no-such",
      user_data = 70000,
    })
    for _, words in ipairs { "0 of 3 droplets are in use, 4 more", "region 'mars1'", "nyc3",
      "no size 's-99vcpu'", "no image no-such", "'bad_name' cannot be", "70000 bytes" } do
      assert.matches(words, message, 1, true)
    end
    assert.equal(0, cloud.count("POST", ""))
  end)

  it("does not blame an unknown region on size and image too", function()
    local _ <close> = virtual()
    local wanted = { image = "debian-12-x64", size = "s-1vcpu-1gb" }
    local lost = do_cloud.new { driver = { region = "mars1" } }
    local message = failure("invalid", lost.driver.preflight, lost.driver, wanted)
    assert.matches("region 'mars1' is none of DigitalOcean's", message, 1, true)
    assert.is_nil(message:find("size", 1, true) or message:find("image", 1, true))
    do_cloud.new().driver:preflight(wanted)
  end)

  it("keeps within the hour's requests", function()
    local _ <close> = virtual()
    local cloud = do_cloud.new { limits = { hour = 150 }, latency = { create = 1500 } }
    local row = cloud.driver:create_machine(specs(1)[1])
    for _ = 1, 60 do cloud.driver.api:call("GET", "/v2/account") end
    cloud.driver:await_machine(row.id, 1800)
    for _, seen in ipairs(cloud.seen) do assert.not_equal(429, seen.status) end
    assert.is_true(cloud.driver.api.left >= 10, cloud.driver.api.left .. " left for others")
  end)
end)
