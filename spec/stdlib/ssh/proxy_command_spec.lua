---`proxy_command` of kiln.ssh.connect, beside the user's ssh_config, against a real sshd.
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local ssh = require "kiln.ssh"

describe("kiln.ssh.connect, with a proxy command,", function()
  local server, home

  lazy_setup(function() server = sshd.start() end)
  lazy_teardown(function() server:stop() end)
  before_each(function()
    home = assert(fs.temp_dir())
    assert(fs.write(home .. "/known_hosts", "* " .. server.host_key .. "\n"))
  end)
  after_each(function() assert(fs.remove(home, { recursive = true })) end)

  local function config(more)
    assert(fs.write(home .. "/config", ("Host web\n  HostName %s\n  Port %d\n  User %s\n%s")
      :format(server.host, server.port, server.user, more or "")))
  end

  local function options(more)
    local out = {
      host = "web", config = home .. "/config", known_hosts = home .. "/known_hosts",
      key = server.key, within = 30,
    }
    for name, value in pairs(more or {}) do out[name] = value end
    return out
  end

  local function raised(kind, opts)
    local ok, err = pcall(ssh.connect, opts)
    assert.is_false(ok)
    assert.equal(kind, err.kind, err.message)
    return err.message
  end

  ---A program that notes its arguments and connects to the first two.
  local function netcat(...)
    return { "sh", "-c", [[printf '%%s\n' "$@" >"$0/words"; exec nc "$1" "$2"]], home, ... }
  end

  it("goes through its program instead of what ssh_config says", function()
    for _, way in ipairs { "ProxyCommand no-such-program", "ProxyJump no-such-host" } do
      config(("  %s\n"):format(way))
      local words = netcat("%h", "%p", "%n %r 100%%")
      local session <close> = ssh.connect(options { proxy_command = words })
      assert.equal("yes\n", session:run("echo yes").out)
      assert.equal(("%s\n%d\nweb %s 100%%\n"):format(server.host, server.port, server.user),
        assert(fs.read(home .. "/words")))
    end
  end)

  it("goes without ssh_config, and through it again for a port", function()
    local session <close> = ssh.connect {
      host = server.host, port = server.port, user = server.user, key = server.key,
      host_key = server.host_key, proxy_command = netcat("%h", "%p"),
    }
    local port <close> = session:forward { to_port = server.port }
    local inner <close> = ssh.connect {
      host = "127.0.0.1", port = port.port, user = server.user, key = server.key,
      host_key = server.host_key, proxy_command = { "nc", "%h", "%p" },
    }
    assert.equal("yes\n", inner:run("echo yes").out)
  end)

  it("tries again while the program fails in time, then shows its words", function()
    config()
    local said = raised("unreachable", options { within = 0.5,
      proxy_command = { "sh", "-c", "echo once >>$0/words; echo no way >&2; exit 3", home } })
    assert.matches("did not answer SSH within 0.5 s; last: ", said, 1, true)
    assert.matches("the proxy command 'sh' ended with status 3: no way", said, 1, true)
    assert.matches("once\nonce\n", assert(fs.read(home .. "/words")), 1, true)
    assert.matches("cannot run no-such-program", raised("not_found", options {
      proxy_command = { "no-such-program" } }), 1, true)
  end)

  it("refuses what is no command, before a program runs", function()
    config()
    for _, words in ipairs {
      "nc %h %p", {}, { "nc", 22 }, { "nc", nil, "22" }, { "nc", x = "22" },
    } do
      assert.matches("'proxy_command' is a list of words", raised("usage",
        options { proxy_command = words }), 1, true)
    end
    assert.matches("token %x", raised("invalid", options {
      proxy_command = { "nc", "%x" } }), 1, true)
    assert.matches("begins with '-'", raised("invalid", options {
      user = "-oProxyCommand=true", proxy_command = { "ssh", "-l", "%r", "%h" } }), 1, true)
    local session <close> = ssh.connect(options())
    assert.matches("not both", raised("usage", options { via = session,
      proxy_command = { "nc", "%h", "%p" } }), 1, true)
  end)
end)
