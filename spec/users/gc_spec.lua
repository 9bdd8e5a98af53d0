---`kiln gc`, `kiln rollback` and `kiln ssh` beside a service that runs: what serves is never
---garbage, and what is asked of a service is found in the ledger.
local fs = require "rt.fs"
local stranger = require "spec.support.stranger"

describe("beside a running service", function()
  local user, ip
  local missing = stranger.lacking()

  local function on_machines(name, body)
    it(name, function()
      if missing then pending("NOT RUN: " .. missing) return end
      body()
    end)
  end

  setup(function()
    if missing then return end
    user = stranger.new { cloud = "digitalocean" }
    user:write_recipe()
    user:must("run", "app.lua", "-e", "staging", "--yes", "--version", "v1")
    ip = user:must("run", "app.lua", "-e", "staging", "--version", "v2")
      :match("app%-staging serves v2 on ([%d.]+)")
  end)

  teardown(function()
    if not missing then user:close() end
  end)

  local function keys()
    local names = {}
    for _, name in ipairs(fs.list(user.dir .. "/.kiln/ssh")) do
      if name:find("^host%-.*[^b]$") then names[#names + 1] = name end
    end
    return #names
  end

  on_machines("gc finds nothing in what serves and what is kept, of any environment", function()
    local _, out = user:must("gc", "--yes")
    assert.equal("nothing to remove\n", out)
    assert.equal("v2", stranger.version_at(ip))
  end)

  on_machines("ssh asks the cloud for the address that the ledger has not", function()
    local _, out = user:must("ssh", "app-staging-green-2", "cat", "/srv/health")
    assert.equal('{"version":"v2"}', out)
  end)

  on_machines("rollback takes environment and cloud from the ledger", function()
    user.env.KILN_CLOUD = nil
    user:must("rollback", "app-staging")
    assert.equal("v1", stranger.version_at(ip))
    user:must("rollback", "app", "-e", "staging")
    assert.equal("v2", stranger.version_at(ip))
    user.env.KILN_CLOUD = "digitalocean"
  end)

  on_machines("rollback of a service that is none names those that are", function()
    local done = user:kiln("rollback", "app-stagin")
    assert.equal(64, done.code, done.err)
    assert.matches("no service 'app-stagin' is in service; there are: app-staging; did you mean "
      .. "'app-staging'?", done.err, 1, true)
  end)

  on_machines("rollback sees that the kept machine is gone before it moves anything", function()
    for _, one in ipairs(user.sim:call("GET", "/v2/droplets").droplets) do
      if one.name == "app-staging-blue-1" then
        user.sim:call("DELETE", "/v2/droplets/" .. one.id)
      end
    end
    user:machines { "app-staging-green-2" }
    local done = user:kiln("rollback", "app-staging")
    assert.equal(3, done.code, done.err)
    assert.matches("app%-staging%-blue%-1 of the kept release v1 is gone: it cannot serve again",
      done.err)
    assert.equal("v2", stranger.version_at(ip))
  end)

  on_machines("gc removes what is garbage with its host key, and the service goes on", function()
    local before = keys()
    user:write_recipe(nil, function(text)
      return (text:gsub('box:run "systemctl enable web"', 'box:run "false"'))
    end)
    local done = user:kiln("run", "app.lua", "--version", "v3", "--on-error", "keep", "-e",
      "staging")
    assert.equal(4, done.code, done.err)
    assert.equal(before + 1, keys())
    user:must("gc", "--yes")
    assert.equal("v2", stranger.version_at(ip))
    assert.is_true(keys() <= before)
  end)
end)
