---A user's own hosts: a recipe in a folder of its own, the user's ssh files, and `kiln run` as a
---child process.
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local proc = require "rt.proc"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local recipe = [[
local ssh = require "kiln.ssh"
local app = { name = "tool" }

---Puts the tool onto the host that ssh calls web.
function app.deploy(run)
  local web <close> = ssh.connect "web"
  web:upload("tool.sh", "~/tools/")
  run:note("it says " .. web:run("~/tools/tool.sh it\\'s 'a!b'").out:gsub("\n", ""))
end

return app
]]

describe("a user's host", function()
  local server, dir, env

  lazy_setup(function() server = sshd.start() end)
  lazy_teardown(function() server:stop() end)

  local function write(name, text, mode)
    assert(fs.write(dir .. "/" .. name, text, { mode = mode or "0600" }))
  end

  local function config(more)
    write(".ssh/config", ("Host web\n  HostName %s\n  Port %d\n  User %s\n%s"):format(server.host,
      server.port, server.user, more or ""))
  end

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir, env = env, timeout = 60 })
  end

  before_each(function()
    dir = assert(fs.temp_dir())
    env = {
      KILN_PATH = tree, NO_COLOR = "1", PATH = os.getenv "PATH", HOME = dir, SSH_AUTH_SOCK = "",
    }
    assert(fs.mkdir(dir .. "/.ssh", { mode = "0700" }))
    write(".ssh/id_ed25519", server.key)
    write(".ssh/known_hosts", ("[%s]:%d %s\n"):format(server.host, server.port, server.host_key))
    write("app.lua", recipe)
    write("tool.sh", "#!/bin/sh\necho one \"$@\"\n", "0755")
    config()
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("is reached by its name, twice, with an edit between", function()
    local done = kiln("run", "app.lua")
    assert.equal(0, done.code, done.err)
    assert.matches("it says one it's a!b", done.out .. done.err, 1, true)
    write("tool.sh", "#!/bin/sh\necho two \"$@\"\n", "0755")
    done = kiln("run", "app.lua")
    assert.equal(0, done.code, done.err)
    assert.matches("it says two it's a!b", done.out .. done.err, 1, true)
  end)

  it("gets nothing when ssh would refuse its configuration, and the line is named", function()
    local log = #server:log()
    for text, said in pairs {
      ["  Prot 22\n"] = ".ssh/config:5: 'prot' is no keyword",
      ["Match host " .. server.host .. " exec true\n"] = ".ssh/config:5: Match exec runs a program",
      ["  ProxyCommand nc %h %p\n"] = ".ssh/config:5: ProxyCommand is shell text",
    } do
      config(text)
      local done = kiln("run", "app.lua")
      assert.not_equal(0, done.code)
      assert.matches(said, done.out .. done.err, 1, true)
      assert.not_matches("internal", done.out .. done.err, 1, true)
    end
    write(".ssh/config", "\u{FEFF}" .. sshd.read(dir .. "/.ssh/config"))
    local done = kiln("run", "app.lua")
    assert.matches(".ssh/config:1: ", done.out .. done.err, 1, true)
    assert.equal(log, #server:log())
  end)

  it("is not trusted with a revoked key", function()
    config "  RevokedHostKeys ~/.ssh/revoked\n"
    write(".ssh/revoked", server.host_key .. "\n")
    local done = kiln("run", "app.lua")
    assert.not_equal(0, done.code)
    assert.matches("revokes the only known key of web", done.out .. done.err, 1, true)
  end)

  it("is reached all the same where a setting is not honoured, which is said once", function()
    config "  ForwardAgent yes\n"
    local done = kiln("run", "app.lua")
    assert.equal(0, done.code, done.err)
    local _, count = (done.out .. done.err):gsub("kiln does not honour 'forwardagent yes'", "")
    assert.equal(1, count, done.err)
  end)
end)
