---A machine's own ports and its files through a run, and a login by `kiln ssh`, on a real local
---machine.
local fs = require "rt.fs"
local proc = require "rt.proc"
local provider = require "kiln.provider"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local recipe = [=[
---A machine with a service that only it can reach.
local http = require "kiln.http"
local app = { name = "inner" }

local server = [[perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(
  LocalAddr => "127.0.0.1:9000", Listen => 5, ReuseAddr => 1) or die;
  while (my $c = $s->accept) { while (<$c>) { last if /^\r?$/ }
  print $c "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nonly me"; close $c }']]

---Makes it and asks it through the machine.
function app.deploy(run)
  local base = run.cloud:base "debian-13"
  local machine = run.cloud:machines { names = { "inner-1" }, image = base.id, size = "1gb" }[1]
  machine:ready()
  machine:run("systemd-run --unit inner sh -c " .. require("kiln.sh").quote(server)
    .. "; until grep -q :2328 /proc/net/tcp; do sleep 0.1; done") -- 9000
  local port <close> = machine:forward { to_port = 9000 }
  local answer = http.get(("http://%s:%d/"):format(port.host, port.port))
  run:note("it says " .. answer.body)
  local closed <close> = machine:forward { to_port = 9001 }
  local ok = pcall(http.get, ("http://%s:%d/"):format(closed.host, closed.port))
  run:note(ok and "that answers" or closed:failure().kind)
  return { summary = "asked" }
end

---Sends files there and brings them back.
function app.move(run)
  local base = run.cloud:base "debian-13"
  local machine = run.cloud:machines { names = { "inner-2" }, image = base.id, size = "1gb" }[1]
  machine:ready()
  machine:upload("data", "/root/data")
  machine:run "mkdir /root/folder; sha256sum < /root/data > /root/folder/sum"
  machine:download("/root/data", "back", { mode = "0600" })
  machine:download("/root/folder", "folder")
  local ok, err = pcall(machine.download, machine, "/root/folder", "folder")
  run:note(ok and "taken" or err.kind)
  machine:download("/root/folder", "folder", { replace = true })
  ok, err = pcall(machine.download, machine, "/root/none", "none")
  run:note(ok and "there" or err.kind)
  return { summary = "moved" }
end

---Destroys it.
function app.remove(run)
  for _, row in ipairs(run.cloud.driver:machines()) do
    run.cloud:existing(row):destroy()
  end
end

return app
]=]

local function why_not()
  local ok, problems = pcall(function() return provider.driver("local"):check() end)
  if not ok then return "no local machines here: " .. tostring(problems) end
  for _, row in ipairs(problems) do
    if not row.ok then return ("no local machines here: %s: %s"):format(row.name, row.message) end
  end
end

---The run that events tell of.
local function event_run(text)
  return text:match '"run":"(%x+)"'
end

describe("a machine of a run", function()
  local dir, env
  local missing = why_not()

  local function kiln(...)
    return assert(proc.run {
      argv = { exe, "-C", dir .. "/app", ... }, env = env, timeout = 120,
    })
  end

  setup(function()
    if missing then return end
    dir = assert(fs.temp_dir())
    env = {
      KILN_PATH = tree, NO_COLOR = "1", KILN_LOCAL_DIR = dir .. "/site",
      KILN_LOCAL_BASE = os.getenv "KILN_LOCAL_BASE" or "/var/lib/kiln/base",
    }
    assert(proc.run { argv = { "chmod", "711", dir } })
    assert(fs.mkdir(dir .. "/app"))
    assert(fs.write(dir .. "/app/inner.lua", recipe))
  end)

  teardown(function()
    if missing then return end
    kiln("run", "inner.lua", "remove")
    assert(require("rt.machine").network_down { dir = dir .. "/site" })
    proc.run { argv = { "rm", "-rf", dir } }
  end)

  it("shows a port that only it sees, and can be logged in to by name", function()
    if missing then return pending(missing) end
    local done = kiln("run", "inner.lua", "-v")
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches("it says only me", done.out .. done.err, 1, true)
    assert.matches("unreachable", done.out .. done.err, 1, true)

    done = kiln("ssh", "inner-1", "echo", "$(hostname)", "as", "$USER; exit 3")
    assert.equal("inner-1 as root\n", done.out, done.err)
    assert.equal(3, done.code)

    done = kiln("ssh", "nobody")
    assert.equal(1, done.code)
    assert.matches("there is no machine 'nobody' here; there are inner-1", done.err, 1, true)
  end)

  it("takes files and gives them back, and tells how far that is", function()
    if missing then return pending(missing) end
    local bytes = require("rt.crypto").random(1000000):rep(80)
    assert(fs.write(dir .. "/app/data", bytes))
    local done = kiln("run", "inner.lua", "move", "--json")
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches('"text":"exists"', done.out, 1, true)
    assert.matches('"text":"not_found"', done.out, 1, true)
    local sum = require("rt.crypto").sha256(bytes)
    local same = assert(proc.run { argv = { "cmp", dir .. "/app/data", dir .. "/app/back" } })
    assert.equal(0, same.code, same.out)
    assert.matches("600$", fs.stat(dir .. "/app/back").mode)
    assert.equal(sum, fs.read(dir .. "/app/folder/sum"):match "%x+")
    local upload
    for line in done.out:gmatch "[^\n]+" do
      local event = require("rt.json").decode(line)
      if event.type == "progress" and event.name:find "^upload" then upload = event end
    end
    assert.same({ "upload data to inner-2:/root/data", 80000000, 80000000 },
      { upload.name, upload.bytes, upload.total })
    local log = kiln("log", event_run(done.out))
    assert.not_matches("progress", log.out)
  end)

  it("is refused by kiln ssh when its host key is not the one kiln gave it", function()
    if missing then return pending(missing) end
    local store <close> = require("kiln.store").open(dir .. "/app", { existing = true })
    local json = require "rt.json"
    local row = store:ledger { kind = "machine", state = "live" }[1]
    local data = json.decode(row.data)
    local right = data.host_key
    data.host_key = require("rt.crypto").ed25519_keypair("other").public
    store:ledger_live(row.token, row.id, json.encode(data))
    local done = kiln("ssh", "inner-1", "true")
    assert.equal(255, done.code)
    assert.matches("Host key verification failed", done.err, 1, true)
    data.host_key = right
    store:ledger_live(row.token, row.id, json.encode(data))
    assert.equal(0, kiln("ssh", "inner-1", "true").code)
  end)
end)
