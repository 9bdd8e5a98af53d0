---The deployment with a database, on real machines of a site of its own: PostgreSQL runs, and the
---health check asks it.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local http = require "rt.http"
local json = require "rt.json"
local machine = require "rt.machine"
local proc = require "rt.proc"
local base = require "providers.local.base"
local local_site = require "spec.support.local_site"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local function why_not()
  if os.getenv "KILN_SPEC_DATABASE" ~= "1" then
    return "it takes a minute: `cmake --build build/dev --target database`"
  end
  local reason = local_site.lacking()
  if reason then return reason end
  if not base.is_archived(local_site.archives, "debian-13-postgresql") then
    return "no base with PostgreSQL yet; `kiln run examples/digitalocean/app.lua` makes it"
  end
end

describe("the deployment with a database", function()
  local missing = why_not()
  local dir, env

  local function kiln(...)
    return assert(proc.run { argv = { exe, "-C", dir .. "/app", ... }, env = env, timeout = 300 })
  end

  local function deployed(...)
    local done = kiln("run", "app.lua", ...)
    assert.equal(0, done.code, done.err)
    return done.err
  end

  local function ask(path)
    local serving = assert(json.decode(kiln("status", "--json").out))[1]
    return assert(http.request {
      url = ("http://%s:8080%s"):format(serving.data.address.ip, path), timeout = 10,
      fresh_connection = true,
    })
  end

  local function password()
    return assert(json.decode(assert(fs.read(dir .. "/site/databases/app-db")))).password
  end

  setup(function()
    if missing then return end
    http.request { url = "http://127.0.0.1:1/" } -- libcurl opens what it keeps for good
    dir = local_site.make "database"
    env = { KILN_PATH = tree, NO_COLOR = "1", KILN_LOCAL_DIR = dir .. "/site",
      KILN_LOCAL_BASE = local_site.archives }
    assert(proc.run { argv = { "cp", "-r", "examples/digitalocean", dir .. "/app" } })
    fs.remove(dir .. "/app/.kiln", { recursive = true })
  end)

  teardown(function()
    if missing then return end
    kiln("run", "app.lua", "remove")
    for _, name in ipairs(fs.list(dir .. "/site/machines") or {}) do
      assert(machine.destroy { dir = dir .. "/site", name = name })
    end
    assert(machine.network_down { dir = dir .. "/site" })
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending("NOT RUN: " .. missing) return end
      body()
    end)
  end

  on_machines("comes up by one command, database and all", function()
    local said = deployed("--version", "v1")
    assert.matches("database app%-db +10%.[%d.]+:5432  online", said)
    assert.matches("baked", said, 1, true)
    assert.matches("Hello from app v1", ask("/").body, 1, true)
    assert.equal(200, ask("/health/check").status)
  end)

  on_machines("has the password on the machine, 0600, and nowhere else", function()
    local found = kiln("ssh", "app-blue-1", "stat -c %a /opt/app/secret.env; cat /opt/app/conf.env")
    assert.matches("^600\n", found.out)
    assert.is_nil(found.out:find(password(), 1, true))
    local seen = assert(proc.run { argv = { "grep", "-rlaF", password(), dir } }).out
    local files = {}
    for file in seen:gmatch("[^\n]+") do
      -- The database's own machine was told by its user-data, which is its owner's.
      if not file:find("/machines/db-app-db/", 1, true) then files[#files + 1] = file end
    end
    table.sort(files)
    assert.same({ dir .. "/site/databases/app-db",
      dir .. "/site/machines/app-blue-1/disk" }, files)
  end)

  on_machines("changes configuration by new machines from the same image", function()
    local before = crypto.sha256(password())
    local said = deployed("--version", "v1", "--greeting", "Good day")
    assert.matches("found, inputs unchanged", said, 1, true)
    assert.matches("Good day from app v1 on app-green-2", ask("/").body, 1, true)
    assert.equal(before, crypto.sha256(password()))
  end)

  on_machines("puts no release into service whose database does not answer", function()
    local site = dir .. "/site"
    assert(machine.power_off { dir = site, name = "db-app-db", within = 30 })
    local sick = ask("/health/check")
    assert.equal(503, sick.status)
    assert.matches("database: 10%.[%d.]+:5432 does not answer", sick.body)
    local done = kiln("run", "app.lua", "--version", "v2")
    assert.equal(3, done.code, done.err)
    assert.matches("the database's machine db-app-db is switched off", done.err, 1, true)
    assert.matches("Good day from app v1", ask("/").body, 1, true)
  end)
end)
