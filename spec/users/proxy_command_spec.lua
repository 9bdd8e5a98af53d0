---A host that only a program reaches: a recipe in a folder of its own gives the program's words;
---`kiln run` is a child process.
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local recipe = [[
local ssh = require "kiln.ssh"
local app = { name = "tool" }

---Runs a command on a host that is reached by way of a program.
function app.deploy(run)
  local web <close> = ssh.connect {
    host = "web", config = true, within = 5,
    proxy_command = { "./reach", "%h", "%p", "as it is; $(touch x)" },
  }
  local done = web:run("echo once >>DIR/runs; until [ -e DIR/go ]; do sleep 0.05; done; echo one")
  run:note("it says " .. done.out:gsub("\n", ""))
end

return app
]]

local reach = [[
#!/bin/sh
echo $$ >>DIR/pids
printf '%s\n' "$3" >DIR/word
exec nc "$1" "$2"
]]

describe("a host behind a proxy command", function()
  local server, dir, env

  lazy_setup(function() server = sshd.start() end)
  lazy_teardown(function() server:stop() end)

  local function write(name, text, mode)
    assert(fs.write(dir .. "/" .. name, (text:gsub("DIR", dir)), { mode = mode or "0600" }))
  end

  local function start(...)
    return proc.start { argv = { exe, ... }, cwd = dir, env = env, timeout = 60 }
  end

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir, env = env, timeout = 60 })
  end

  local function runs() return fs.read(dir .. "/runs") end

  local function until_true(condition)
    local limit = timer.now() + 30
    repeat timer.sleep(0.02) until condition() or timer.now() > limit
    assert.is_truthy(condition())
  end

  local function no_program_is_left()
    for pid in assert(fs.read(dir .. "/pids")):gmatch("%d+") do
      until_true(function() return not proc.alive(math.tointeger(tonumber(pid))) end)
    end
  end

  before_each(function()
    dir = assert(fs.temp_dir())
    env = {
      KILN_PATH = tree, NO_COLOR = "1", PATH = os.getenv "PATH", HOME = dir, SSH_AUTH_SOCK = "",
    }
    assert(fs.mkdir(dir .. "/.ssh", { mode = "0700" }))
    write(".ssh/id_ed25519", server.key)
    write(".ssh/known_hosts", ("[%s]:%d %s\n"):format(server.host, server.port, server.host_key))
    write(".ssh/config", ("Host web\n  HostName %s\n  Port %d\n  User %s\n  ProxyCommand none %%h")
      :format(server.host, server.port, server.user))
    write("app.lua", recipe)
    write("reach", reach, "0755")
    write("go", "")
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("is reached twice, with an edit between, and no shell reads the words", function()
    local done = kiln("run", "app.lua")
    assert.equal(0, done.code, done.err)
    assert.matches("it says one", done.out .. done.err, 1, true)
    assert.equal("as it is; $(touch x)\n", fs.read(dir .. "/word"))
    write("app.lua", (recipe:gsub("echo one", "echo two")))
    done = kiln("run", "app.lua")
    assert.equal(0, done.code, done.err)
    assert.matches("it says two", done.out .. done.err, 1, true)
    no_program_is_left()
  end)

  it("is told of with the program's words, and a typo too", function()
    write("reach", "#!/bin/sh\necho 'no way to web' >&2\nexit 7\n", "0755")
    local done = kiln("run", "app.lua")
    assert.equal(3, done.code, done.err)
    assert.matches("the proxy command './reach' ended with status 7: no way to web",
      done.out .. done.err, 1, true)
    write("app.lua", (recipe:gsub("%./reach", "./raech")))
    done = kiln("run", "app.lua")
    assert.equal(3, done.code, done.err)
    assert.matches("cannot run ./raech", done.out .. done.err, 1, true)
    write("app.lua", (recipe:gsub("proxy_command = %b{}", "proxy_command = \"nc %%%%h\"")))
    done = kiln("run", "app.lua")
    assert.matches("'proxy_command' must be a table", done.out .. done.err, 1, true)
    assert.is_nil(runs())
  end)

  for signal, code in pairs { INT = 4, KILL = false } do
    it("runs a command once, through SIG" .. signal .. " and a resume", function()
      assert(fs.remove(dir .. "/go"))
      local child <close> = assert(start("run", "app.lua"))
      until_true(runs)
      child:kill(signal)
      local ended = child:wait()
      assert.equal(code or nil, ended.code)
      no_program_is_left()
      write("go", "")
      local done = kiln("resume", (kiln("runs").out:match("^%x+")))
      assert.equal(0, done.code, done.err)
      assert.matches("it says one", done.out .. done.err, 1, true)
      assert.equal("once\n", runs())
      no_program_is_left()
    end)
  end
end)
