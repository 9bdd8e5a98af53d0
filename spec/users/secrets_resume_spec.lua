---Secrets that come from a command, in runs that are killed, resumed and aborted: a recipe in a
---folder of its own, `kiln` as a child process.
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

---What these recipes change is files: `world.touch` adds a line, `world.wait` waits for a file.
local world = [[
local fs, timer = require "rt.fs", require "rt.timer"
return {
  touch = function(path) fs.write(path, "once\n", { append = true }) end,
  wait = function(path) while not fs.stat(path) do timer.sleep(0.02) end end,
}
]]

local recipe = [[
local op = require "kiln.op"
local scope = require "kiln.scope"
local secret = require "kiln.secret"
local world = require "kiln.spec_files"
local app = { name = "app" }
app.secrets = { declared = { command = { "./vault", "declared" } } }

local function touch(name, result)
  return op.call { name = name, class = "idempotent", args = { result = result },
    perform = function() world.touch("DIR/" .. name) return result end }
end

local function wait(name)
  op.call { name = "wait for " .. name, class = "idempotent",
    perform = function() world.wait("DIR/" .. name) return true end }
end

---Uses a declared secret, is stopped, and undoes in an abort.
function app.deploy(run)
  run:transaction(function(undo)
    local out = touch("made", secret.join("key=", run:secret "declared"))
    undo("made", function() touch("unmade", out) end)
    wait "go"
    run:note(secret.is(out) and "still secret" or "it is " .. tostring(out))
  end)
end

---One task prints a secret that only the other one asks for, later in the order of tasks.
function app.beside(run)
  scope.all({
    function()
      wait "asked"
      local out = op.call { name = "print", class = "idempotent",
        perform = function() world.touch "DIR/printed" return "it is beside-" .. "PASSWORD!" end }
      touch("after", out)
      wait "go"
      run:note(out)
    end,
    function()
      local value = secret.from_command { "./vault", "beside" }
      touch("asked", secret.join(value, "?"))
      wait "go"
    end,
  }, function(body) body() end)
end
return app
]]

local vault = [[
#!/bin/sh
echo "$1" >>DIR/vault.log
sleep 0.3
[ ! -e DIR/sealed ] || { echo "the vault is sealed" >&2; exit 2; }
echo "$1-PASSWORD"
]]

describe("a secret from a command", function()
  local dir, env

  local function write(name, text, mode)
    assert(fs.write(dir .. "/" .. name, (text:gsub("DIR", dir)), { mode = mode or "0600" }))
  end

  local function read(name) return fs.read(dir .. "/" .. name) end

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir, env = env, timeout = 120 })
  end

  local function until_there(name)
    local limit = timer.now() + 30
    repeat timer.sleep(0.02) until read(name) or timer.now() > limit
    assert.is_truthy(read(name), name)
  end

  ---Starts an entry and ends it by a signal when the file is there.
  local function cut(entry, signal, name)
    local child <close> = assert(proc.start { argv = { exe, "run", "app.lua", entry }, cwd = dir,
      env = env })
    until_there(name)
    timer.sleep(0.1)
    child:kill(signal)
    child:wait()
    return assert(kiln("runs").out:match("^%x+"))
  end

  before_each(function()
    dir = assert(fs.temp_dir())
    assert(fs.mkdir(dir .. "/world/stdlib/kiln", { parents = true }))
    assert(fs.mkdir(dir .. "/world/providers"))
    write("world/stdlib/kiln/spec_files.lua", world)
    write("world/providers/none.lua",
      'return { new = function() return { name = "none", capabilities = {} } end }')
    write("app.lua", recipe)
    write("vault", vault, "0755")
    env = { KILN_PATH = dir .. "/world:" .. tree, KILN_CLOUD = "none", NO_COLOR = "1",
      PATH = os.getenv "PATH", HOME = dir }
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  for _, signal in ipairs { "INT", "KILL" } do
    it("is asked for again by a resume and by an abort, after SIG" .. signal, function()
      local id = cut("deploy", signal, "made")
      write("go", "")
      local done = kiln("resume", id)
      assert.equal(0, done.code, done.err)
      assert.matches("still secret", done.out .. done.err, 1, true)
      assert(fs.remove(dir .. "/go"))
      assert(fs.remove(dir .. "/made"))
      id = cut("deploy", signal, "made")
      done = kiln("abort", id)
      assert.equal(0, done.code, done.err)
      assert.equal("once\n", read "made")
      assert.equal("once\n", read "unmade")
      assert.equal(("declared\n"):rep(4), read "vault.log")
    end)

    it("is known to a task beside the one that asks for it, after SIG" .. signal, function()
      local id = cut("beside", signal, "after")
      local shown = kiln("show", id, "--json").out
      assert.is_nil(shown:find("beside-PASSWORD", 1, true))
      assert.is_nil((read ".kiln/state.db" .. (read ".kiln/state.db-wal" or ""))
        :find("beside-PASSWORD", 1, true))
      write("go", "")
      local done = kiln("resume", id)
      assert.equal(0, done.code, done.err)
      assert.matches("it is <secret>!", done.out, 1, true)
      for _, name in ipairs { "printed", "after", "asked" } do
        assert.equal("once\n", read(name))
      end
    end)
  end

  it("that is missing stops what needs it before anything is done, and says why", function()
    local id = cut("deploy", "KILL", "made")
    write("sealed", "")
    for _, how in ipairs { "resume", "abort" } do
      local done = kiln(how, id)
      assert.equal(64, done.code, done.err)
      assert.matches("declared: ./vault gave no secret: exit status 2: the vault is sealed",
        done.err, 1, true)
    end
    assert.is_nil(read "unmade")
    assert(fs.remove(dir .. "/sealed"))
    assert.equal(0, kiln("abort", id).code)
    assert.equal("once\n", read "unmade")
  end)
end)
