---Images in several regions, things in a project, machines made together of which one fails.
local do_cloud = require "spec.support.do_cloud"
local error_ = require "kiln.error"
local recipes = require "spec.support.recipes"
local timer = require "rt.timer"
local virtual = require "spec.support.virtual"

local cloud

---A cloud of the spec's own, which outlives a run as an account does.
package.preload["providers.simulated_account"] = function()
  return { new = function() return cloud.driver end }
end

local function run(folder, text)
  folder:write("r.lua", text)
  return folder:start("r.lua", { cloud = "simulated_account" })
end

local function machine(name)
  return { name = name, token = "kl-spec-" .. name, image = "debian-12-x64" }
end

local function image_of(driver)
  local box = driver:create_machine(machine "box")
  driver:await_machine(box.id)
  driver:power_off(box.id)
  return driver:snapshot { machine = box.id, name = "app-00aa11bb", token = "kl-spec-i" }
end

local function regions_of(driver, id)
  local regions = driver.api:call("GET", "/v2/images/" .. id).image.regions
  table.sort(regions)
  return regions
end

describe("an image of DigitalOcean", function()
  it("is copied to regions at the same time, once each, though a request is lost", function()
    local _ <close> = virtual()
    cloud = do_cloud.new()
    local image = image_of(cloud.driver)
    local home = regions_of(cloud.driver, image.id)[1]
    cloud.place { kind = "lost_before", method = "POST", path = "/v2/images/*/actions", nth = 2 }
    local began = timer.now()
    cloud.driver:copy_image(image.id, { home, "ams3", "sfo3" })
    local took, transfer = timer.now() - began, cloud.sim.world.latency.transfer
    assert.is_true(took >= transfer and took < 1.2 * transfer, tostring(took))
    local wanted = { home, "ams3", "sfo3" }
    table.sort(wanted)
    assert.same(wanted, regions_of(cloud.driver, image.id))
    cloud.driver:copy_image(image.id, wanted)
    assert.equal(3, cloud.count("POST", "^/v2/images/%d+/actions$"))
  end)

  it("whose copy errored says which, and where to", function()
    local _ <close> = virtual()
    cloud = do_cloud.new()
    local image = image_of(cloud.driver)
    cloud.place { kind = "errored", method = "POST", path = "/v2/images/*/actions" }
    local ok, err = pcall(cloud.driver.copy_image, cloud.driver, image.id, { "ams3" })
    assert.is_false(ok)
    assert.is_true(error_.is(err, "failed"), tostring(err))
    assert.matches(("copying image %s to ams3"):format(image.id), err.message, 1, true)
  end)
end)

describe("a project of DigitalOcean", function()
  local function made(driver)
    local rows = driver:create_machines { machine "app-1", machine "app-2" }
    return {
      "do:dbaas:" .. driver:create_database({ name = "app-db" }).id,
      "do:droplet:" .. rows[1].id, "do:droplet:" .. rows[2].id,
      "do:floatingip:" .. driver:create_address({ name = "app" }).id,
      "do:loadbalancer:" .. driver:create_balancer({ name = "app" }).id,
    }
  end

  it("gets all that is made", function()
    local _ <close> = virtual()
    cloud = do_cloud.new { driver = { project = "shop" } }
    local api = cloud.driver.api
    local id = api:call("POST", "/v2/projects", { name = "shop", purpose = "Web Application" })
      .project.id
    local wanted, held = made(cloud.driver), {}
    for index, row in ipairs(api:call("GET", "/v2/projects/" .. id .. "/resources").resources) do
      held[index] = row.urn
    end
    assert.same(wanted, held)
  end)

  it("that is not there is named, and what was made is not taken for never made", function()
    for _, make in ipairs { "create_database", "create_address", "create_balancer" } do
      local _ <close> = virtual()
      cloud = do_cloud.new { driver = { project = "shop" } }
      local ok, err = pcall(cloud.driver[make], cloud.driver, { name = "app-x" })
      assert.is_false(ok)
      assert.equal("maybe", err.effect, make)
      assert.matches("the account has no project 'shop'", err.message, 1, true)
    end
  end)
end)

describe("machines that are made by one request", function()
  it("go away together when one of them errors", function()
    local _ <close> = virtual()
    local folder <close> = recipes.folder()
    cloud = do_cloud.new { faults = {
      { kind = "errored", method = "POST", path = "/v2/droplets", member = 2 } } }
    local outcome = run(folder, [[
      local m = {}
      function m.deploy(run)
        return run:transaction(function(undo)
          local base, made = run.cloud:base "debian-13"
          undo("the machines", function()
            for _, one in ipairs(made) do one:destroy() end
          end)
          made = run.cloud:machines { names = { "app-1", "app-2", "app-3" }, image = base.id }
          made[2]:ready()
        end)
      end
      return m
    ]])
    assert.equal("rolled_back", outcome.status)
    assert.matches("machine app-2", outcome.error.message, 1, true)
    assert.matches("was accepted", outcome.error.message, 1, true)
    assert.equal(1, cloud.count("POST", "^/v2/droplets$"))
    timer.sleep(60)
    assert.same({}, cloud.driver:machines())
  end)
end)

describe("what kiln has no words for", function()
  it("is made through the API once, and is told to those who ask again", function()
    local _ <close> = virtual()
    local folder <close> = recipes.folder()
    cloud = do_cloud.new()
    local outcome = run(folder, [[
      local m = {}
      function m.deploy(run)
        local base = run.cloud:base "debian-13"
        local box = run.cloud:machines { names = { "app-1" }, image = base.id }[1]
        box:power_off()
        local volume = run.cloud:api("POST", "/v2/volumes",
          { name = "data", size_gigabytes = 10, region = "fra1" }).volume
        run.cloud:api("POST", "/v2/volumes/" .. volume.id .. "/actions",
          { type = "attach", droplet_id = math.tointeger(tonumber(box.id)), region = "fra1" })
        local key = run.cloud:api("POST", "/v2/certificates", { name = "mine", type = "custom",
          private_key = "-----BEGIN PRIVATE KEY-----",
          leaf_certificate = "-----BEGIN CERTIFICATE-----" }).certificate
        return { volume = volume.id, certificate = key.id }
      end
      return m
    ]])
    assert.equal("done", outcome.status, tostring(outcome.error))
    timer.sleep(10)
    local volume = cloud.driver.api:call("GET", "/v2/volumes/" .. outcome.result.volume).volume
    assert.equal(1, #volume.droplet_ids)
    assert.equal(1, cloud.count("POST", "^/v2/volumes$"))
    assert.equal(1, cloud.count("POST", "^/v2/certificates$"))
  end)

  it("is a load balancer no longer needed: it goes once, and leaves the ledger", function()
    local _ <close> = virtual()
    local folder <close> = recipes.folder()
    cloud = do_cloud.new()
    local outcome = run(folder, [[
      local m = {}
      function m.deploy(run)
        run.cloud:balancer("app", { port = 80, health = { path = "/", port = 8080 } })
        return { run.cloud:release_balancer "app", run.cloud:release_balancer "app",
          #run.store:ledger { kind = "balancer", state = "live" } }
      end
      return m
    ]])
    assert.same({ true, false, 0 }, outcome.result, tostring(outcome.error))
    assert.is_nil(cloud.driver:balancer "app")
  end)
end)
