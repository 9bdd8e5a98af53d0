---A reserved IP whose creation was not answered: nothing but what this creation made is ever taken.
local gc = require "kiln.gc"
local error_ = require "kiln.error"
local fs = require "rt.fs"
local store_ = require "kiln.store"
local do_cloud = require "spec.support.do_cloud"
local virtual = require "spec.support.virtual"

describe("the creation of a reserved IP on DigitalOcean", function()
  ---An account, where somebody else reserves an IP while kiln's request is on its way; or a quiet
  ---one with these latencies.
  local function account(faults, quiet)
    local cloud = do_cloud.new { faults = faults, latency = quiet }
    local send = cloud.driver.api.send
    cloud.driver.api.send = function(request)
      if not quiet and not cloud.other and request.method == "POST"
        and request.url:find("/reserved_ips$") then
        cloud.other = true
        local answer = cloud.sim:answer { method = "POST", path = "/v2/reserved_ips", query = "",
          headers = request.headers and { Authorization = "Bearer spec-token" },
          body = '{"region":"fra1"}' }
        cloud.other = assert(answer.body:match('"ip":"([%d.]+)"'))
      end
      return send(request)
    end
    return cloud
  end

  local function ips(cloud)
    local list = {}
    for index, row in ipairs(cloud.sim.world.reserved_ips:list()) do list[index] = row.id end
    return list
  end

  local function projects(cloud)
    return #cloud.sim.world.projects:list(function(row) return not row.is_default end)
  end

  local spec = { name = "app", token = "kl-00000001-00000001", known = {} }
  local lost = { method = "POST", path = "/v2/reserved_ips", nth = 2 } -- the first is the other's

  for _, kind in ipairs { "lost_before", "lost_after", "html", "empty" } do
    it("takes its own, never the other's: " .. kind, function()
      local _ <close> = virtual()
      lost.kind = kind
      local cloud = account { lost }
      local made = cloud.driver:create_address(spec)
      assert.equal(2, #ips(cloud))
      assert.are_not.equal(cloud.other, made.ip)
      assert.equal(made.ip, cloud.driver:address("app").ip)
      assert.equal(0, projects(cloud))
      assert.is_true(cloud.driver:discard_address(spec))
      assert.same({ cloud.other }, ips(cloud))
    end)
  end

  it("releases the twin of a request that was sent again because it was not seen", function()
    local _ <close> = virtual()
    local cloud = account({
      { kind = "status", status = 500, after = true, method = "POST", path = "/v2/reserved_ips" },
    }, { visible = 14 })
    local made = cloud.driver:create_address(spec)
    assert.equal(2, cloud.count("POST", "^/v2/reserved_ips$"))
    assert.same({ made.ip }, ips(cloud))
    assert.equal(0, projects(cloud))
  end)

  ---An account whose token may not make projects: there, an address cannot be marked.
  local function unmarked(kind)
    lost.kind = kind
    return account { lost, { kind = "status", status = 403, method = "POST", path = "/v2/projects",
      times = 100, body = '{"id":"forbidden","message":"You are not authorized"}' } }
  end

  local function fails(cloud, method)
    local ok, err = xpcall(cloud.driver[method], error_.from, cloud.driver, spec)
    assert.is_false(ok)
    assert.equal("in_doubt", err.kind, err.message)
    for _, ip in ipairs(ips(cloud)) do assert.matches(ip, err.message, 1, true) end
    return err.message
  end

  for kind, count in pairs { lost_before = 1, lost_after = 2 } do
    it("is in doubt, and names what it may be, where no project can be made: " .. kind, function()
      local _ <close> = virtual()
      local cloud = unmarked(kind)
      fails(cloud, "create_address")
      assert.equal(count, #ips(cloud))
      assert.is_nil(cloud.driver:address "app")
      fails(cloud, "discard_address")
      for _, ip in ipairs(ips(cloud)) do cloud.driver:destroy_address(ip) end
      assert.is_false(cloud.driver:discard_address(spec))
      assert.equal("app", cloud.driver:create_address(spec).name)
    end)
  end

  it("is not forgotten by gc while an address may be of it", function()
    local _ <close> = virtual()
    local dir = assert(fs.temp_dir())
    local store <close> = store_.open(dir)
    store:run_new { id = "00000001", recipe = "app.lua", entry = "deploy", args = "{}",
      env = "default", cloud = "digitalocean", service = "app", kiln_version = "0" }
    store:op_intent("00000001", "/#2", "address app", "adopt", "", '{"name":"app","known":[]}')
    store:ledger_intent { run = "00000001", key = "/#2", provider = "digitalocean",
      kind = "address", name = "app", token = spec.token, service = "app" }
    store:run_status("00000001", "failed")
    local cloud = unmarked "lost_after"
    fails(cloud, "create_address")

    local row = gc.find(store, cloud.driver, "p").garbage[1]
    assert.equal("asked for, and not known to be there", row.why)
    local ok, err = xpcall(gc.remove, error_.from, store, cloud.driver, row)
    assert.is_false(ok)
    assert.matches("it may be [%d.]+ or [%d.]+, which appeared meanwhile", err.message)
    assert.equal(2, #ips(cloud))
    assert.equal(1, #gc.find(store, cloud.driver, "p").garbage)
    for _, ip in ipairs(ips(cloud)) do cloud.driver:destroy_address(ip) end
    assert.is_false(gc.remove(store, cloud.driver, row))
    assert.same({}, gc.find(store, cloud.driver, "p").garbage)
    assert(fs.remove(dir, { recursive = true }))
  end)
end)
