---The example end to end, on real machines of a site of its own.
local fs = require "rt.fs"
local http = require "rt.http"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"
local provider = require "kiln.provider"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local function why_not()
  local ok, problems = pcall(function() return provider.driver("local"):check() end)
  if not ok then return "no local machines here: " .. tostring(problems) end
  for _, row in ipairs(problems) do
    if not row.ok then return ("no local machines here: %s: %s"):format(row.name, row.message) end
  end
end

describe("the example", function()
  local dir, env
  local missing = why_not()

  local function options(words)
    return { argv = { exe, "-C", dir .. "/app", table.unpack(words) }, env = env, timeout = 500 }
  end

  local function kiln(...) return assert(proc.run(options { ... })) end

  local function services()
    return assert(json.decode(kiln("status", "--json").out))
  end

  local function ask(path)
    local serving = services()[1]
    return assert(http.request {
      url = ("http://%s:8080%s"):format(serving.data.address.ip, path), timeout = 5,
      fresh_connection = true, -- a kept one goes on to the machine that answered before
    })
  end

  setup(function()
    if missing then return end
    http.request { url = "http://127.0.0.1:1/" } -- libcurl opens what it keeps for good
    dir = assert(fs.temp_dir())
    env = {
      KILN_PATH = tree, NO_COLOR = "1", KILN_LOCAL_DIR = dir .. "/site",
      KILN_LOCAL_BASE = os.getenv "KILN_LOCAL_BASE" or "/var/lib/kiln/base",
    }
    -- A machine's root is an ordinary user here: it must be able to reach the site.
    assert(proc.run { argv = { "chmod", "711", dir } })
    assert(proc.run { argv = { "cp", "-r", "examples/app", dir .. "/app" } })
    fs.remove(dir .. "/app/.kiln", { recursive = true })
  end)

  teardown(function()
    if missing then return end
    kiln("run", "demo.lua", "remove")
    assert(require("rt.machine").network_down { dir = dir .. "/site" })
    proc.run { argv = { "rm", "-rf", dir } }
  end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  on_machines("bakes, serves and swaps under load without losing a request", function()
    local done = kiln("run", "demo.lua")
    assert.equal(0, done.code, done.err)
    assert.matches(" 0 failed", done.out, 1, true)
    assert.matches("v1: %d+ answers", done.out)
    assert.matches("v2: %d+ answers", done.out)
    assert.matches("Hello from app v2", ask("/").body, 1, true)
  end)

  on_machines("bakes nothing the second time", function()
    local done = kiln("run", "demo.lua")
    assert.equal(0, done.code, done.err)
    assert.is_nil(done.err:find("baked", 1, true))
    assert.matches("found, inputs unchanged", done.err, 1, true)
  end)

  on_machines("puts a broken release back, with nothing of it left", function()
    local machines = #assert(json.decode(kiln("status", "--json").out))
    local done = kiln("run", "app.lua", "--version", "v3", "--health-within", "3")
    assert.equal(3, done.code, done.err)
    assert.matches("FLAG is not set", done.err, 1, true)
    assert.matches("still serves v2", done.err, 1, true)
    assert.equal(200, ask("/health/check").status)
    assert.equal(machines, #services())
  end)

  on_machines("rolls back to the kept release", function()
    local done = kiln("rollback", "app")
    assert.equal(0, done.code, done.err)
    assert.matches("Hello from app v1", ask("/").body, 1, true)
  end)

  ---Kills kiln when its output shows `mark`, then resumes.
  local function killed_at(mark, words)
    local child <close> = assert(proc.start(options(words)))
    local id, killed
    while true do
      local line = child:read_line()
      if line == nil then break end
      local event = json.decode(line)
      id = event and event.run or id
      if not killed and line:find(mark) then
        killed = true
        child:kill "KILL"
      end
    end
    child:wait()
    assert.is_true(killed, "never saw " .. mark)
    local done = kiln("resume", id)
    assert.equal(0, done.code, done.err)
  end

  on_machines("resumes to the same end when killed in a bake", function()
    assert.equal(0, kiln("run", "demo.lua", "remove").code)
    killed_at('systemctl enable.*op.start', { "run", "app.lua", "--version", "v1", "--json" })
    assert.matches("Hello from app v1", ask("/").body, 1, true)
  end)

  on_machines("resumes to the same end when killed in a swap", function()
    killed_at('"name":"assign address', { "run", "app.lua", "--version", "v2", "--json" })
    assert.matches("Hello from app v2", ask("/").body, 1, true)
    timer.sleep(0)
    assert.equal(2, #services())
  end)
end)
