---The deployment with a database on the simulated DigitalOcean, whose droplets, PostgreSQL and load
---balancer are real: the three flows, several machines, and what is left after them.
local fs = require "rt.fs"
local http = require "rt.http"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local base = require "providers.local.base"
local local_site = require "spec.support.local_site"
local simulator = require "spec.support.simulator"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local function why_not()
  if os.getenv "KILN_SPEC_DATABASE" ~= "1" then
    return "it takes minutes: `cmake --build build/dev --target database`"
  end
  local reason = local_site.lacking()
  if reason then return reason end
  if not base.is_archived(local_site.archives, "debian-13-postgresql") then
    return "no base with PostgreSQL yet; `kiln run examples/digitalocean/app.lua` makes it"
  end
end

describe("the deployment with a database on the simulated DigitalOcean", function()
  local missing = why_not()
  local dir, env, sim

  local function kiln(...)
    local done = assert(proc.run { argv = { exe, "-C", dir .. "/app", ... }, env = env,
      timeout = 300 })
    assert.equal(0, done.code, done.err)
    return done.err
  end

  local function deploy(...)
    return kiln("run", "app.lua", "--cloud", "digitalocean", ...)
  end

  local function ask(url)
    return assert(http.request { url = url, timeout = 30, fresh_connection = true })
  end

  setup(function()
    if missing then return end
    http.request { url = "http://127.0.0.1:1/" } -- libcurl opens what it keeps for good
    dir = assert(fs.temp_dir())
    sim = simulator.start({ "--machines", "local", "--latency", "create=1,off=1,on=1,snapshot=1,"
      .. "assign=1,destroy=1,database=1,load_balancer=1,load_balancer_update=1" }, 900)
    env = { KILN_PATH = tree, NO_COLOR = "1", DIGITALOCEAN_API_URL = sim.url,
      DIGITALOCEAN_TOKEN = sim.token }
    assert(proc.run { argv = { "cp", "-r", "examples/digitalocean", dir .. "/app" } })
    fs.remove(dir .. "/app/.kiln", { recursive = true })
  end)

  teardown(function()
    if missing then return end
    sim:close()
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending("NOT RUN: " .. missing) return end
      body()
      http.forget() -- kept connections to the simulator
    end)
  end

  on_machines("deploys, releases and configures behind one address", function()
    local said = deploy("--version", "v1")
    assert.matches("database app%-db +10%.[%d.]+:5432  online", said)
    local ip = said:match("app serves v1 on ([%d.]+)")
    assert.equal(200, ask("http://" .. ip .. ":8080/health/check").status)
    assert.matches("baked", deploy("--version", "v2"), 1, true)
    said = deploy("--version", "v2", "--greeting", "Good day")
    assert.matches("found, inputs unchanged", said, 1, true)
    assert.matches("Good day from app v2", ask("http://" .. ip .. ":8080/").body, 1, true)
  end)

  on_machines("swaps several machines behind a load balancer and loses no request", function()
    assert.equal(201, select(2, sim:call("POST", "/v2/domains", { name = "example.com" })))
    local several = { "-e", "staging", "--count", "2", "--domain", "example.com" }
    local said = deploy("--version", "v1", table.unpack(several))
    local ip = said:match("app%-staging serves v1 on ([%d.]+)")
    local count, wrong, over = 0, {}, false
    local traffic = task.spawn(function()
      while not over do
        local answer, err = http.request { url = "http://" .. ip .. "/", timeout = 30,
          fresh_connection = true }
        count = count + 1
        if not answer or answer.status ~= 200 then
          wrong[#wrong + 1] = answer and answer.status or err.message
        end
        timer.sleep(0.02)
      end
    end)
    local ok, err = pcall(deploy, "--version", "v2", table.unpack(several))
    over = true
    assert.is_true(traffic:join())
    assert.is_true(ok, err)
    assert.same({}, wrong)
    assert.is_true(count > 100)
    assert.matches("from app v2 on app-staging-green", ask("http://" .. ip .. "/").body, 1, true)
    local records = sim:call("GET", "/v2/domains/example.com/records?type=A").domain_records
    assert.same({ ip, 60 }, { records[1].data, records[1].ttl })
  end)

  on_machines("leaves nothing but its databases", function()
    kiln("run", "app.lua", "remove", "--cloud", "digitalocean", "-e", "staging")
    kiln("run", "app.lua", "remove", "--cloud", "digitalocean")
    local deadline = timer.now() + 60
    while #sim:call("GET", "/v2/droplets").droplets > 0 do
      assert.is_true(timer.now() < deadline, "there are droplets left")
      timer.sleep(0.2)
    end
    assert.same({}, sim:call("GET", "/v2/load_balancers").load_balancers)
    assert.same({}, sim:call("GET", "/v2/reserved_ips").reserved_ips)
    assert.same({}, sim:call("GET", "/v2/images?private=true").images)
    assert.equal(2, #sim:call("GET", "/v2/databases").databases)
  end)
end)
