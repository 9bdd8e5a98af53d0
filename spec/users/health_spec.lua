---Health, drain and keep as a recipe asks for them: a service must stay good before traffic moves,
---connections on every port are waited for, and what is kept too long is said and removed.
local proc = require "rt.proc"
local timer = require "rt.timer"
local stranger = require "spec.support.stranger"

---The recipe, with a second service on port 9090, and with options that arguments give.
local function with_options(text)
  text = text:gsub("ExecStart=[^\n]*8080 %-d /srv\n", function(line)
    return line .. "ExecStartPost=/usr/bin/systemd-run /usr/bin/python3 -m http.server 9090\n"
  end)
  text = text:gsub("health = (%b{}), drain = 2,", [[
    health = { path = "/health", port = 8080, within = 30, stable = tonumber(args.stable) },
    drain = 3, keep = tonumber(args.keep), boot_within = tonumber(args.boot_within),
    configure = args.ends and function(machine)
      machine:run("systemd-run --on-active=3 --timer-property=AccuracySec=100ms systemctl stop web")
    end, ]])
  return (text:gsub("app%.args = { ", [[
app.args = {
  stable = { "seconds" }, keep = { "seconds" }, boot_within = { "seconds" },
  ends = { "the service" },
  ]]))
end

describe("a rollout", function()
  local user
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
    user:write_recipe(nil, with_options)
    user:must("run", "app.lua", "--version", "v1")
  end)

  teardown(function()
    if not missing then user:close() end
  end)

  local function address() return user:releases()[1].data.address.ip end

  on_machines("names a mistyped option, and the one that is meant", function()
    for wrong, said in pairs {
      ["drian = 2"] = "blue_green: unknown option 'drian'; did you mean 'drain'?",
      ["keep = '1h'"] = "blue_green: option 'keep' must be seconds, not string",
      ["health = { path = '/', prot = 80 }"] = "health: unknown option 'prot'; did you mean "
        .. "'port'?",
      ["health = { path = '/' }"] = "health: option 'port' is missing",
    } do
      local more = wrong:find "^health" and "" or ", health = { path = '/', port = 80 }"
      user:write("wrong.lua", ([[
return { name = "wrong", deploy = function(run)
  return require "recipes.blue_green"(run, { image = {}, %s%s })
end }]]):format(wrong, more))
      local done = user:kiln("run", "wrong.lua")
      assert.not_equal(0, done.code)
      assert.matches(said, done.err, 1, true)
    end
  end)

  on_machines("does not move to a service that is good for a moment only", function()
    local done = user:kiln("run", "app.lua", "--version", "v2", "--stable", "8", "--ends", "yes")
    assert.equal(3, done.code, done.err)
    assert.matches("rolled back", done.err, 1, true)
    assert.equal("v1", stranger.version_at(address()))
  end)

  on_machines("gives up on a machine that is not ready in `boot_within`", function()
    local done = user:kiln("run", "app.lua", "--version", "v2", "--boot-within", "0.1")
    assert.equal(3, done.code, done.err)
    assert.equal("v1", stranger.version_at(address()))
  end)

  on_machines("waits for connections on every port that the old machine serves", function()
    local holder = assert(proc.start { argv = { "python3", "-c", "import socket, sys, time\n"
      .. "s = socket.create_connection((sys.argv[1], 9090), 10)\nprint('held', flush=True)\n"
      .. "time.sleep(120)", address() } })
    assert.equal("held", holder:read_line())
    local said = user:must("run", "app.lua", "--version", "v2", "--stable", "1", "--keep", "1")
    holder:kill "KILL"
    holder:wait()
    assert.matches("drain app%-blue%-1 +1 connections left", said)
    assert.matches("200 ×3, good for 1 s", said, 1, true)
    assert.matches("kept until %d+:%d+, then the next deploy or `kiln gc` removes it", said)
  end)

  on_machines("says what is kept longer than promised, and gc removes it", function()
    timer.sleep(1.1) -- the time that it was to be kept
    local _, out = user:must "status"
    assert.matches("overdue since %d+:%d+: kiln gc", out)
    user:must("gc", "--yes")
    assert.same({ "app-green-2" }, user:machines { "app-green-2" })
    assert.equal(1, #user:releases())
  end)
end)
