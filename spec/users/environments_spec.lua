---A second environment beside the first, from a recipe in a folder of its own: neither touches the
---other, and a typo is no environment.
local fs = require "rt.fs"
local proc = require "rt.proc"
local rt_http = require "rt.http"
local stranger = require "spec.support.stranger"

local exe = assert(fs.realpath("/proc/self/exe"))
local pty = exe:match("^(.*)/") .. "/pty"

describe("an environment", function()
  local user
  local missing = stranger.lacking()

  local function on_machines(name, body)
    it(name, function()
      if missing then pending("NOT RUN: " .. missing) return end
      body()
    end)
  end

  setup(function()
    if not missing then user = stranger.new { cloud = "digitalocean" } end
  end)

  teardown(function()
    if not missing then user:close() end
  end)

  local production -- the address of the default environment

  on_machines("is refused another one's address before that moves, and told whose it is", function()
    user:write_recipe 'front = run.cloud:address "app",'
    production = user:must("run", "app.lua"):match("app serves v1 on ([%d.]+)")
    local done = user:kiln("run", "app.lua", "-e", "staging", "--yes", "--version", "v2")
    assert.equal(1, done.code, done.err) -- not 3: the image that it baked is still there
    assert.matches("address app leads to app%-blue%-1, which belongs to this project, "
      .. "environment default, service app, run %x%x%x%x; nothing was changed", done.err)
    assert.matches("leave the name out, `run.cloud:address()`", done.err, 1, true)
    assert.equal("v1", stranger.version_at(production))
    assert.same({ "app-blue-1" }, user:machines { "app-blue-1" })
  end)

  on_machines("has machines and an address of its own", function()
    user:write_recipe()
    local said = user:must("run", "app.lua", "-e", "staging", "--version", "v2")
    local staging = said:match("app%-staging serves v2 on ([%d.]+)")
    assert.not_equal(production, staging)
    assert.equal("v1", stranger.version_at(production))
    assert.equal("v2", stranger.version_at(staging))
    local both = { "app-blue-1", "app-staging-blue-1" }
    assert.same(both, user:machines(both))
    local _, out = user:must("status")
    assert.matches("app +default +digitalocean +v1 +app%-blue%-1", out)
    assert.matches("app%-staging +staging +digitalocean +v2 +app%-staging%-blue", out)
  end)

  on_machines("is updated and removed, and the other serves on, images and all", function()
    user:must("run", "app.lua", "-e", "staging", "--version", "v1")
    assert.matches("1 deleted, 1 are in use elsewhere",
      (user:must("run", "app.lua", "remove", "-e", "staging")))
    assert.equal("v1", stranger.version_at(production))
    assert.same({ "app-blue-1" }, user:machines { "app-blue-1" })
    assert.equal(1, #user:releases())
    assert.matches("found, inputs unchanged", (user:must("run", "app.lua")), 1, true)
  end)

  on_machines("may not be removed through another one's address", function()
    user:write_recipe('front = run.cloud:address "app",', function(text)
      return (text:gsub("images = true", 'address = "app"'))
    end)
    local done = user:kiln("run", "app.lua", "remove", "-e", "staging")
    assert.equal(3, done.code, done.err)
    assert.matches("which belongs to this project, environment default", done.err, 1, true)
    assert.equal("v1", stranger.version_at(production))
  end)
end)

describe("a database of an environment", function()
  local user

  setup(function() user = stranger.new { cloud = "digitalocean", machines = "none" } end)

  teardown(function() user:close() end)

  local function write(call)
    user:write("app.lua", ([[
      local app = { name = "app", environments = { "staging" } }
      function app.deploy(run)
        local found = run.cloud:%s
        found:allow()
        return { summary = "database " .. found.name }
      end
      return app]]):format(call))
  end

  local function rules(name)
    local values = {}
    for _, one in ipairs(user.sim:call("GET", "/v2/databases").databases) do
      local path = ("/v2/databases/%s/firewall"):format(one.id)
      for _, rule in ipairs(one.name == name and user.sim:call("GET", path).rules or {}) do
        values[#values + 1] = rule.value
      end
    end
    rt_http.forget()
    return table.concat(values, " ")
  end

  it("is its own, and lets in its own machines alone", function()
    write "database(nil, { create = true })"
    assert.matches("database app-db", user:must("run", "app.lua"), 1, true)
    assert.matches("database app-staging-db", user:must("run", "app.lua", "-e", "staging"), 1, true)
    assert.matches("^kiln%-tag:kiln_5fowner:%x+%-app$", rules "app-db")
    assert.matches("^kiln%-tag:kiln_5fowner:%x+%-app%-staging$", rules "app-staging-db")
  end)

  it("is not another one's by its name, unless the recipe shares it", function()
    write 'database("app-db", { create = true })'
    local done = user:kiln("run", "app.lua", "-e", "staging")
    assert.equal(3, done.code, done.err)
    assert.matches("database app%-db belongs to this project, environment default, service app, "
      .. "run %x+, and this is environment staging; nothing was changed", done.err)
    write 'database("app-db", { shared = true })'
    user:must("run", "app.lua", "-e", "staging")
    assert.matches("%x+%-app kiln%-tag:.*%-app%-staging$", rules "app-db")
  end)

  it("is not another project's", function()
    user:checkout { "app.lua" }
    write "database(nil, { create = true })"
    local done = user:kiln("run", "app.lua")
    assert.equal(3, done.code, done.err)
    assert.matches("database app%-db belongs to project %x+, environment default", done.err)
  end)
end)

describe("the name of an environment", function()
  local user
  local recipe = [[
    local app = { name = "app" }
    function app.deploy(run) return { summary = run.name .. " it is" } end
    return app]]

  before_each(function()
    user = stranger.new()
    user:write("app.lua", recipe)
  end)

  after_each(function() user:close() end)

  local function declare()
    user:write("app.lua", (recipe:gsub("return app$",
      'app.environments = { "production", "staging" }\n%0')))
  end

  local function refused(message, ...)
    local done = user:kiln("run", "app.lua", ...)
    assert.equal(64, done.code, done.err)
    assert.matches(message, done.err, 1, true)
  end

  it("is one that the recipe declares, and a typo is told the nearest", function()
    declare()
    refused("app.lua has no environment 'stagng'; it declares: production, staging; did you mean "
      .. "'staging'?", "-e", "stagng")
    refused("it declares: production, staging\n", "-e", "elsewhere", "--yes")
    assert.is_nil(fs.stat(user.dir .. "/.kiln"))
    assert.matches("app-staging it is", user:must("run", "app.lua", "-e", "staging"), 1, true)
    assert.matches("app it is", user:must("run", "app.lua"), 1, true)
  end)

  it("is confirmed once where the recipe declares none", function()
    refused("'staging' is a new environment; this project has: default. If it is meant, confirm it "
      .. "once with --yes, or declare it in the recipe: environments = { \"staging\" }",
      "-e", "staging")
    assert.is_nil(fs.stat(user.dir .. "/.kiln"))
    user:must("run", "app.lua", "-e", "staging", "--yes")
    user:must("run", "app.lua", "-e", "staging")
    refused("this project has: default, staging; did you mean 'staging'? If", "-e", "stagin")
  end)

  it("is asked for on a terminal", function()
    local function typed(answer)
      local words = { pty, "-m", "[y/N]", "-l", answer, "--", exe, "run", "app.lua", "-e", "qa" }
      return assert(proc.run { argv = words, cwd = user.dir, env = user.env, timeout = 60 }).out
    end
    assert.matches("exit 64", typed "n", 1, true)
    local said = typed "y"
    assert.matches("'qa' is a new environment; this project has: default. Make it? [y/N]", said, 1,
      true)
    assert.matches("exit 0", said, 1, true)
  end)

  it("may be part of a machine's name", function()
    refused("'Staging_1' cannot be an environment's name", "-e", "Staging_1", "--yes")
  end)

  it("must be a list where the recipe declares them", function()
    user:write("app.lua", (recipe:gsub("return app$", "app.environments = \"staging\"\n%0")))
    refused('app.lua: environments must look like { "production", "staging" }')
  end)
end)

describe("a DNS record", function()
  local user

  before_each(function() user = stranger.new { cloud = "digitalocean", machines = "none" } end)

  after_each(function() user:close() end)

  local function write(fields)
    user:write("app.lua", ([[
      local app = { name = "app", environments = { "staging" } }
      app.args = { ip = { "where it leads", default = "192.0.2.1" } }
      function app.deploy(run, args)
        return { summary = run.cloud:record { domain = "example.com", data = args.ip, %s } }
      end
      return app]]):format(fields))
  end

  local function records()
    local list = {}
    for _, row in ipairs(user.sim:call("GET", "/v2/domains/example.com/records").domain_records) do
      if row.type == "A" or row.type == "TXT" then
        list[#list + 1] = ("%s %s %s"):format(row.name, row.type, row.data:gsub("=%x+,", "=…,"))
      end
    end
    rt_http.forget()
    table.sort(list)
    return list
  end

  local function mark(name, env, service)
    return ("%s TXT heritage=kiln,kiln/project=…,kiln/env=%s,kiln/service=%s"):format(name, env,
      service)
  end

  local function refused(wanted, ...)
    local before = records()
    local done = user:kiln("run", "app.lua", ...)
    assert.equal(3, done.code, done.err)
    assert.matches(wanted, done.err)
    assert.same(before, records())
  end

  it("is its service's own, and another environment or project may not change it", function()
    write ""
    user:must("run", "app.lua")
    user:must("run", "app.lua", "-e", "staging", "--ip", "192.0.2.2")
    local both = { mark("_kiln.app", "default", "app"),
      mark("_kiln.app-staging", "staging", "app-staging"), "app A 192.0.2.1",
      "app-staging A 192.0.2.2" }
    assert.same(both, records())

    write 'name = "app"'
    refused("record app%.example%.com belongs to this project, environment default, service app, "
      .. "and this is environment staging, service app%-staging; nothing was changed: leave the "
      .. "name out, and it is called app%-staging%.example%.com", "-e", "staging")
    user:must("run", "app.lua", "--ip", "192.0.2.3")
    both[3] = "app A 192.0.2.3"
    assert.same(both, records())

    user:checkout { "app.lua" }
    refused("record app%.example%.com belongs to project %x+, environment default, service app")
    write 'name = "app", replace = true'
    refused("record app%.example%.com belongs to project %x+, environment default, service app")
  end)

  it("that kiln did not make is changed only when the recipe says so", function()
    user.sim:call("POST", "/v2/domains", { name = "example.com" })
    for _, name in ipairs { "@", "www" } do
      user.sim:call("POST", "/v2/domains/example.com/records",
        { type = "A", name = name, data = "192.0.2.9" })
    end
    write 'name = "www"'
    refused("record www%.example%.com leads to 192%.0%.2%.9 and was not made by kiln; nothing was "
      .. "changed: take another name, or say that kiln may change it: .*replace = true")
    user:must("run", "app.lua", "--ip", "192.0.2.9") -- it leads there already
    write 'name = "@", replace = true'
    user:must("run", "app.lua")
    assert.same({ "@ A 192.0.2.1", mark("_kiln", "default", "app"),
      mark("_kiln.www", "default", "app"), "www A 192.0.2.9" }, records())
  end)
end)
