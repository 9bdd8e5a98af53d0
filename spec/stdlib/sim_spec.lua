local error_ = require "kiln.error"
local fs = require "rt.fs"
local machines = require "kiln.sim.machines"
local proc = require "rt.proc"
local simulator = require "spec.support.simulator"
local yaml = require "kiln.yaml"

local exe = assert(fs.realpath("/proc/self/exe"))

local function kiln(...)
  return assert(proc.run { argv = { exe, ... }, timeout = 30 })
end

local droplet = { name = "app", region = "nyc3", size = "s-1vcpu-1gb", image = "debian-12-x64",
  tags = { "run-1" } }

describe("kiln sim", function()
  it("says where it is and which token it takes, and ends well when told to", function()
    local sim <close> = simulator.start { "--speed", "1000", "--latency", "create=33,off=7" }
    assert.matches("^http://127%.0%.0%.1:%d+$", sim.url)
    assert.matches("^dop_v1_%x+$", sim.token)
    local made, status = sim:call("POST", "/v2/droplets", droplet)
    assert.equal(202, status)
    local listed = sim:call("GET", "/v2/droplets?tag_name=run-1&per_page=5")
    assert.equal(made.droplet.id, listed.droplets[1].id)
    sim.token = "other"
    assert.equal(401, select(2, sim:call("GET", "/v2/account")))
    assert.equal(0, sim:close())
  end)

  it("drops the connection where a fault says so, and delays where one says that", function()
    local path = os.tmpname()
    assert(fs.write(path, [[
- { method: POST, path: /v2/droplets, kind: lost_after }
- { method: GET, path: /v2/regions, kind: delay, seconds: 200 }
]]))
    local sim <close> = simulator.start { "--speed", "1000", "--faults", path }
    os.remove(path)
    local ok, err = pcall(sim.call, sim, "POST", "/v2/droplets", droplet)
    assert.is_false(ok)
    assert.is_true(error_.is(err, "protocol", "unreachable"), err.kind)
    assert.equal("maybe", err.effect)
    assert.equal(1, (sim:call("GET", "/v2/droplets?tag_name=run-1")).meta.total)
    assert.equal(200, select(2, sim:call("GET", "/v2/regions")))
  end)

  it("lists faults and what it does not model", function()
    local listed = kiln("sim", "digitalocean", "--list-faults")
    assert.equal(0, listed.code)
    assert.matches("lost_after +any", listed.out)
    assert.matches("It does not model:\n  app platform", listed.out)
  end)

  it("refuses what it does not understand", function()
    for message, arguments in pairs {
      ["no simulator of 'mars'"] = { "mars" },
      ["there is no latency 'crate'"] = { "digitalocean", "--latency", "crate=3" },
      ["there is no limit 'doplets'"] = { "digitalocean", "--limit", "doplets=3" },
      ["takes name=number"] = { "digitalocean", "--latency", "create" },
      ["--port must be"] = { "digitalocean", "--port", "70000" },
      ["local or none"] = { "digitalocean", "--machines", "remote" },
      ["no kind 'x'"] = { "digitalocean", "--faults", "/dev/stdin" },
    } do
      local ended = assert(proc.run { argv = { exe, "sim", table.unpack(arguments) },
        stdin = "[{ kind: x }]", timeout = 30 })
      assert.equal(64, ended.code, message)
      assert.is_truthy(ended.err:find(message, 1, true), ended.err)
    end
  end)
end)

describe("the user data of a droplet with keys", function()
  local key = "ssh-ed25519 AAAA a"

  it("is what the client sent when there are none", function()
    assert.equal("#!/bin/sh\n", machines.user_data({}, "#!/bin/sh\n"))
    assert.is_nil(machines.user_data({}, nil))
  end)

  it("has the keys and everything that the client sent", function()
    assert.same({ ssh_authorized_keys = { key } }, yaml.decode(machines.user_data({ key }, nil)))
    local config = machines.user_data({ key }, "#cloud-config\nruncmd: ['true']\n")
    assert.is_truthy(config:find("\n#cloud-config\nruncmd: ['true']\n", 1, true))
    assert.is_truthy(config:find("- " .. key, 1, true))
    local both = machines.user_data({ key }, "#!/bin/sh\necho one\n")
    assert.matches("multipart/mixed", both)
    local three = machines.user_data({ "ssh-rsa C" }, both)
    assert.is_truthy(three:find("echo one", 1, true) and three:find(key, 1, true)
      and three:find("ssh-rsa C", 1, true))
    assert.equal(3, select(2, three:gsub("Content%-Type: text/", "")))
    assert.equal("no header\n", machines.user_data({ key }, "no header\n"))
  end)
end)
