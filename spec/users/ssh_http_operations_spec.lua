---`kiln.ssh` and `kiln.http` in a recipe: operations of the run, and nothing while a recipe loads.
local fs = require "rt.fs"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local sshd = require "spec.support.sshd"
local web = require "spec.support.web"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

describe("a recipe's own connections and requests", function()
  local dir, env

  local function write(name, text, values)
    assert(fs.write(dir .. "/" .. name, (text:gsub("%u%u+", values or {}))))
  end

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir, env = env, timeout = 60 })
  end

  before_each(function()
    dir = assert(fs.temp_dir())
    env = { KILN_PATH = tree, NO_COLOR = "1", PATH = os.getenv "PATH", HOME = dir }
  end)

  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("are refused while the recipe loads, with its line", function()
    local site <close> = web.start(function() return { body = "{}" } end)
    for _, case in ipairs {
      { 'require("kiln.http").get "URL"', "GET" },
      { 'require("kiln.http").download("URL", "file")', "download http" },
      { 'require("kiln.probe").http { url = "URL" }', "probe http" },
      { 'require("kiln.ssh").connect { host = "127.0.0.1", port = PORT, key_file = "k", '
        .. 'known_hosts = "k" }', "kiln.ssh.connect" },
      { 'require("kiln.secret").from_command { "touch", "DIR/touched" }', "the command touch" },
      { 'require("kiln.httpd").serve { handler = print }', "kiln.httpd.serve" },
      { 'require("kiln.load").start { url = "URL" }', "kiln.load.start" },
      { 'require("kiln.retry").call(function() error { kind = "timeout" } end)', "cannot wait" },
      { 'require("kiln.op").call { name = "mine", class = "once", perform = print }', "mine" },
    } do
      write("app.lua", "local app = {}\nlocal function go()\n  return " .. case[1]
        .. "\nend\nfunction app.deploy() end\ngo()\nreturn app\n",
        { URL = site.url, PORT = tostring(site.port), DIR = dir })
      for _, words in ipairs { { "run", "app.lua", "--help" }, { "run", "app.lua" } } do
        local done = kiln(table.unpack(words))
        assert.equal(64, done.code, case[1] .. done.out .. done.err)
        assert.matches("kiln: app.lua:[36]: .*loads; move", done.err)
        assert.matches(case[2], done.err, 1, true)
      end
    end
    assert.equal(0, #site.seen)
    assert.is_nil(fs.stat(dir .. "/touched"))
    assert.is_nil(fs.stat(dir .. "/.kiln"))
  end)

  local restarts = [[
local ssh = require "kiln.ssh"
local op = require "kiln.op"
local app = { name = "web" }

local function connect(run)
  return ssh.connect { host = "HOST", port = PORT, user = "USER", key_file = run:path "id",
    host_key = "HOSTKEY" }
end

---Runs a command that takes a while.
function app.deploy(run)
  local web <close> = connect(run)
  web:write("DIR/conf", "port=80\n")
  local done = web:run("cat; echo run >>runs; until [ -e DIR/go ]; do sleep 0.1; done; echo end",
    { stdin = "told\n", cwd = "DIR", on_line = function(line) run:note("it says " .. line) end })
  run:note("all of it: " .. done.out:gsub("\n", "|"))
  web:upload("id.pub", "DIR/copy")
  web:download("DIR/copy", "back")
  local both = ssh.all({ web, web }, "echo $0; hostname >/dev/null")
  run:note(tostring(both.ok) .. " ok")
end

---Restarts something, and then fails.
function app.fails(run)
  local web <close> = connect(run)
  web:run "echo run >>DIR/runs"
  web:run "exit 4"
end

---The same within a block that undoes what it made.
function app.undoes(run)
  run:transaction(function(undo)
    undo("nothing", function() end)
    connect(run):run "echo run >>DIR/runs"
    error { kind = "exit", message = "later" }
  end, { undone = "as before" })
end

---Misspells an option.
function app.typo(run)
  connect(run):run("true", { timout = 3 })
end
return app
]]

  local function host()
    local server = sshd.start()
    assert(fs.write(dir .. "/id", server.key, { mode = "0600" }))
    assert(fs.write(dir .. "/id.pub", "a file\n"))
    write("web.lua", restarts, { HOST = server.host, PORT = tostring(server.port), DIR = dir,
      USER = server.user, HOSTKEY = server.host_key })
    return server
  end

  local function runs() return fs.read(dir .. "/runs") end

  local function until_true(condition)
    local limit = timer.now() + 30
    repeat timer.sleep(0.02) until condition() or timer.now() > limit
    assert.is_truthy(condition())
  end

  ---What guards left on this host, which is also the sshd's.
  local function guards() return #fs.glob("/var/lib/kiln/guard/kl-*") end

  it("run a command once, though kiln is killed meanwhile and resumed", function()
    if proc.info().uid ~= 0 then return pending "guards need root here" end
    local _ <close> = host()
    local before = guards()
    local child = assert(proc.start { argv = { exe, "run", "web.lua" }, cwd = dir, env = env })
    local shown = {}
    local reader = task.spawn(function()
      for line in function() return child:read_line() end do shown[#shown + 1] = line end
    end)
    until_true(runs)
    child:kill "KILL"
    child:wait()
    reader:join()
    child:close()
    local id = kiln("runs").out:match("^%x+")
    assert(fs.write(dir .. "/go", ""))
    local done = kiln("resume", id)
    assert.equal(0, done.code, done.out .. done.err)
    assert.equal("run\n", runs())
    assert.matches("all of it: told|end|", done.out, 1, true)
    assert.matches("it says end\n", done.out, 1, true)
    assert.matches("2 ok", done.out, 1, true)
    assert.equal("port=80\n", fs.read(dir .. "/conf"))
    assert.equal("a file\n", fs.read(dir .. "/back"))
    assert.equal(before, guards())
  end)

  it("are told as what nobody undid when the run fails", function()
    local _ <close> = host()
    local done = kiln("run", "web.lua", "fails")
    assert.equal(1, done.code, done.err)
    assert.is_nil(done.err:find("nothing that it changed is left", 1, true))
    assert.matches("not undone by kiln: run 127.0.0.1: echo run >>", done.err, 1, true)
    done = kiln("run", "web.lua", "undoes")
    assert.equal(3, done.code, done.err)
    assert.matches("rolled back: as before", done.err, 1, true)
    assert.matches("not undone by kiln: run 127.0.0.1: echo run >>", done.err, 1, true)
    done = kiln("run", "web.lua", "typo")
    assert.matches("run: unknown option 'timout'", done.err, 1, true)
  end)
end)
