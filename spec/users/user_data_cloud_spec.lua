---User-data of each form on a cloud reached by its API: droplets that are machines of this host.
local json = require "rt.json"
local rt_http = require "rt.http"
local stranger = require "spec.support.stranger"

local recipe = [=[
local cloudinit = require "kiln.cloudinit"
local json = require "kiln.json"
local scope = require "kiln.scope"

local script = "#!/bin/sh\necho 'é ran' >> /root/proof\n"
local kinds = {
  script = script,
  config = "#cloud-config\nruncmd:\n- echo 'é ran' >> /root/proof\n",
  bytes = "#cloud-config\nwrite_files:\n- path: /root/proof\n  content: !!binary w6kgcmFuCg==\n",
  parts = cloudinit.multipart {
    { type = "x-shellscript", content = script },
    { type = "cloud-config", content = cloudinit.config {
      cloudinit.run_command "touch /root/second" } },
  },
}
local app = { name = "kinds" }

local function machine(run, name, text)
  local box = run.cloud:machines { names = { "kinds-" .. name },
    image = run.cloud:base("debian-13").id, user_data = text }[1]
  box:ready()
  return box
end

function app.boot(run)
  local names = {}
  for name in pairs(kinds) do names[#names + 1] = name end
  local said = scope.all(names, function(name)
    return { name, machine(run, name, kinds[name]):run("cat /root/proof; ls /root").out }
  end)
  run:note(json.encode(said))
end

function app.wrong(run)
  machine(run, "wrong", "#cloud-config\nrun_cmd: [touch /root/never]\n")
end

function app.command(run)
  local box = machine(run, "command", kinds.config)
  box:run "echo so far; echo wrong >&2; exit 3"
end

function app.long(run)
  machine(run, "long", "#!/bin/sh\n" .. ("#"):rep(64 * 1024))
end
return app
]=]

describe("user-data on a cloud", function()
  local missing = stranger.lacking()
  local user

  setup(function()
    if missing then return end
    user = stranger.new { cloud = "digitalocean" }
    user:write("app.lua", recipe)
  end)
  teardown(function() if user then user:close() end end)

  local function on_machines(name, body)
    it(name, function()
      if missing then return pending(missing) end
      body()
    end)
  end

  local function droplets()
    local list = user.sim:call("GET", "/v2/droplets").droplets
    rt_http.forget() -- a connection that is kept is one more descriptor
    return #list
  end

  on_machines("runs in each form, beside kiln's own part", function()
    local _, out = user:must("run", "app.lua", "boot", "--json")
    local said
    for line in out:gmatch("[^\n]+") do
      local event = json.decode(line)
      if event.type == "note" then said = assert(json.decode(event.text)) end
    end
    assert.equal(4, #said)
    for _, row in ipairs(said) do
      assert.equal("é ran\nproof\n" .. (row[1] == "parts" and "second\n" or ""), row[2], row[1])
    end
  end)

  on_machines("fails the run by what cloud-init says, and what stands is told", function()
    local done = user:kiln("run", "app.lua", "wrong")
    assert.not_equal(0, done.code)
    assert.matches("run_cmd", done.err)
    assert.matches("still there: machine kinds-wrong", done.err, 1, true)
    assert.matches("remove what nothing needs: kiln gc", done.err, 1, true)
  end)

  on_machines("ends where a command's failure is told with what the command said, once", function()
    local done = user:kiln("run", "app.lua", "command")
    assert.equal(1, done.code)
    local _, times = done.err:gsub("\n    wrong\n", "")
    assert.equal(1, times, done.err)
  end)

  on_machines("is refused before a droplet is made when it is too long for the cloud", function()
    local before = droplets()
    local done = user:kiln("run", "app.lua", "long")
    assert.not_equal(0, done.code)
    assert.matches("digitalocean takes 65536", done.err)
    assert.equal(before, droplets())
  end)
end)
