---A user's own world, against a real sshd: files in a home folder of its own, an agent, a terminal.
local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"
local scope = require "kiln.scope"
local ssh = require "kiln.ssh"
local timer = require "rt.timer"

describe("kiln.ssh.connect, by the user's files,", function()
  local server, home

  lazy_setup(function() server = sshd.start() end)
  lazy_teardown(function() server:stop() end)
  before_each(function()
    home = assert(fs.temp_dir())
    assert(fs.mkdir(home .. "/.ssh", { mode = "0700" }))
  end)
  after_each(function() assert(fs.remove(home, { recursive = true })) end)

  local function write(name, text)
    assert(fs.write(home .. "/.ssh/" .. name, text, { mode = "0600" }))
  end

  local function known(name) return ("%s %s\n"):format(name, server.host_key) end

  ---A key pair in the home folder that may log in.
  local function key(name, arguments)
    local private, public = server:keygen(name .. math.random(1 << 40), arguments)
    write(name, private)
    write(name .. ".pub", public)
    server:authorize(public)
    return private, public
  end

  local function config(more)
    write("config", ("Host web\n  HostName %s\n  Port %d\n  User %s\n%s"):format(server.host,
      server.port, server.user, more or ""))
  end

  local function options(more)
    local out = {
      host = "web", config = home .. "/.ssh/config", known_hosts = home .. "/.ssh/known_hosts",
      within = 30,
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

  local function assert_works(opts)
    local session <close> = ssh.connect(opts)
    assert.equal("yes\n", session:run("echo yes").out)
    return session
  end

  ---Runs Lua text in a kiln whose home is ours; `shell` is a command where $KILN runs it.
  local function run(text, shell, environment)
    assert(fs.write(home .. "/program.lua", text))
    environment.HOME = home
    environment.KILN = ("%s lua %s/program.lua"):format(proc.info().exe, home)
    return assert(proc.run { argv = { "sh", "-c", shell }, env = environment, timeout = 20 })
  end

  local by_name = [[
    local ok, session = pcall(require "kiln.ssh".connect, "web")
    if not ok then print(session.kind, session.message or session) return end
    io.write(session:run("echo yes").out)
    session:close()
  ]]

  it("connects to a bare name like ssh: alias, port, user, key, known host", function()
    key("id_ed25519", "-t ed25519")
    config "Host *\n  IdentityAgent none\n"
    write("known_hosts", known(("[%s]:%d"):format(server.host, server.port)))
    local done = run(by_name, "$KILN", { SSH_AUTH_SOCK = "" })
    assert.equal("yes\n", done.out, done.err)
  end)

  it("raises host_key for an unknown host before anything is sent, with the way out", function()
    local log = #server:log()
    config()
    write("known_hosts", known "elsewhere")
    local message = raised("host_key", options { key = server.key })
    assert.matches(("ssh-keyscan -p %d 127.0.0.1"):format(server.port), message, 1, true)
    assert.equal(log, #server:log())
  end)

  it("takes what the caller gives before what the files say", function()
    config "  IdentityFile /nowhere\nHost *\n  User nobody\n"
    write("known_hosts", "")
    assert_works(options { key = server.key, host_key = server.host_key })
    local session <close> = ssh.connect {
      host = server.host, port = server.port, user = server.user, key = server.key,
      known_hosts = { home .. "/.ssh/absent", home .. "/.ssh/other" }, within = 30,
      host_key = server.host_key,
    }
    assert.is_true(session:alive())
    write("other", known(server.host))
    assert_works {
      host = server.host, port = server.port, user = server.user, key = server.key,
      known_hosts = { home .. "/.ssh/absent", home .. "/.ssh/other" }, within = 30,
    }
  end)

  it("looks HostKeyAlias up instead of the address", function()
    config "  HostKeyAlias the-web\n"
    write("known_hosts", known "the-web")
    assert_works(options { key = server.key })
  end)

  it("refuses a host whose key is revoked or another's", function()
    config()
    write("known_hosts", known "*" .. "@revoked * " .. server.host_key .. "\n")
    assert.matches("revokes the only known key", raised("host_key", options { key = server.key }))
    local _, other = server:keygen("other" .. math.random(1 << 40), "-t ed25519")
    write("known_hosts", "* " .. other .. "\n@revoked * " .. server.host_key .. "\n")
    assert.matches("which is revoked", raised("host_key", options { key = server.key }))
    write("known_hosts", "* " .. other .. "\n")
    assert.matches("not the pinned", raised("host_key", options { key = server.key }))
  end)

  it("trusts no key that RevokedHostKeys has, and no host without that file", function()
    config(("  RevokedHostKeys %s/.ssh/revoked\n"):format(home))
    write("known_hosts", known "*")
    write("revoked", "# none yet\n")
    assert_works(options { key = server.key })
    write("revoked", server.host_key .. "\n")
    local log = #server:log()
    assert.matches("revoked revokes the only known key of web", raised("host_key",
      options { key = server.key }), 1, true)
    assert.matches("revokes", raised("host_key", options {
      key = server.key, host_key = server.host_key,
    }), 1, true)
    assert.equal(log, #server:log())
    assert(fs.remove(home .. "/.ssh/revoked"))
    assert.matches("without that file no host is trusted", raised("host_key",
      options { key = server.key }), 1, true)
    local _, public = server:keygen("revoke" .. math.random(1 << 40), "-t ed25519")
    write("one.pub", public .. "\n")
    sshd.output(("ssh-keygen -q -k -f %s/.ssh/revoked %s/.ssh/one.pub"):format(home, home))
    assert.matches("is a key revocation list", raised("unsupported",
      options { key = server.key }), 1, true)
  end)

  it("takes user@host and ssh://user@host:port", function()
    local target = ("%s@%s"):format(server.user, server.host)
    local given = { key = server.key, host_key = server.host_key, within = 30 }
    given.host, given.port = target, server.port
    assert_works(given)
    given.host, given.port = ("ssh://%s:%d"):format(target, server.port), nil
    assert_works(given)
    given.host = given.host .. "/"
    assert_works(given)
    write("known_hosts", known "*")
    assert_works { host = given.host, key = server.key, within = 30,
      config = home .. "/.ssh/absent", known_hosts = home .. "/.ssh/known_hosts" }
    given.host = "ssh://nobody:0"
    raised("invalid", given)
  end)

  it("says on standard error, once, what of the files it does not honour", function()
    key("id_ed25519", "-t ed25519")
    config "  ForwardAgent yes\nHost *\n  IdentityAgent none\n"
    write("known_hosts", known "*")
    local done = run(by_name .. by_name:gsub("local ok", "ok"), "$KILN", { SSH_AUTH_SOCK = "" })
    assert.equal("yes\nyes\n", done.out, done.err)
    assert.equal(("kiln: warn: %s/.ssh/config:5: kiln does not honour 'forwardagent yes'\n"):format(
      home), done.err)
  end)

  it("refuses ProxyCommand with the line that gives it", function()
    config "  ProxyCommand nc %h %p\n"
    write("known_hosts", known "*")
    local said = raised("unsupported", options { key = server.key })
    assert.matches("config:5: ProxyCommand", said, 1, true)
    assert.matches('proxy_command = { "nc", "%h", "%p" }', said, 1, true)
  end)

  it("tries the identity files in turn and says which ones it tried", function()
    key("good", "-t rsa -b 2048")
    write("stranger", (server:keygen("stranger" .. math.random(1 << 40), "-t ecdsa")))
    write("broken", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    write("known_hosts", known "*")
    local files = ""
    for _, name in ipairs { "absent", "broken", "stranger", "good" } do
      files = files .. ("  IdentityFile %s/.ssh/%s\n"):format(home, name)
    end
    config(files .. "  IdentityAgent none\n")
    local session = assert_works(options())
    assert.matches("broken: the key is no private key", session.notes[1], 1, true)
    config(("  IdentityFile %s/.ssh/absent\n  IdentityAgent none\n"):format(home))
    assert.matches("no private key to log in to web with (looked at " .. home .. "/.ssh/absent",
      raised("auth", options()), 1, true)
    assert.equal("not_found", select(2, pcall(ssh.connect,
      options { key_file = home .. "/.ssh/absent" })).kind)
  end)

  it("shows a certificate that lies beside its key", function()
    local certified <close> = sshd.start()
    certified:keygen("ca", "-t ed25519")
    certified:halt()
    certified.config = ("TrustedUserCAKeys %s/ca.pub"):format(certified.dir)
    assert.is_true(certified:launch())
    write("id", (certified:keygen("id", "-t ecdsa -N tiger")))
    sshd.output(("cd %s && ssh-keygen -q -s ca -I spec -n %s id.pub"):format(certified.dir,
      certified.user))
    local opts = certified:options { key_file = home .. "/.ssh/id", passphrase = "tiger" }
    opts.key, opts.timeout, opts.within = nil, nil, 30
    assert.matches("refused the key", raised("auth", opts))
    write("id-cert.pub", sshd.read(certified.dir .. "/id-cert.pub"))
    assert_works(opts)
    write("id-cert.pub", "ecdsa-sha2-nistp256-cert-v01@openssh.com AAAA")
    assert.matches("refused the key", raised("auth", opts))
  end)

  describe("a passphrase", function()
    before_each(function()
      key("id_ed25519", "-t ed25519 -a 2 -N tiger")
      config "  IdentityAgent none\n"
      write("known_hosts", known "*")
    end)

    it("is taken from the caller, as text or secret", function()
      local file = home .. "/.ssh/id_ed25519"
      assert_works(options { key_file = file, passphrase = "tiger" })
      assert_works(options { key_file = file, passphrase = crypto.secret "tiger" })
      assert.matches("does not open", raised("auth", options {
        key_file = file, passphrase = "lion",
      }))
    end)

    it("is asked on the terminal, again after a wrong one, and never shown", function()
      local out = run(by_name, [[
        shown() { until grep -q "$1" "$HOME/out" 2>/dev/null; do sleep 0.05; done; }
        { shown 'passphrase of'; echo lion; shown 'does not open'; echo tiger; shown yes; } |
          script -qfec "$KILN" "$HOME/out" >/dev/null
        cat "$HOME/out"]], { SSH_AUTH_SOCK = "" }).out
      assert.matches("passphrase of " .. home .. "/.ssh/id_ed25519: ", out, 1, true)
      assert.matches("yes", out, 1, true)
      assert.not_matches("tiger", out, 1, true)
    end)

    it("is missed with the way out where there is no terminal", function()
      local done = run(by_name, "$KILN < /dev/null", { SSH_AUTH_SOCK = "" })
      assert.matches("^auth\t", done.out)
      assert.matches("standard input is no terminal", done.out, 1, true)
      assert.matches("ssh-add " .. home .. "/.ssh/id_ed25519", done.out, 1, true)
    end)

    it("is not needed when another key will do", function()
      key("second", "-t ed25519")
      config(("  IdentityFile %s/.ssh/id_ed25519\n  IdentityFile %s/.ssh/second\n"):format(home,
        home) .. "  IdentityAgent none\n")
      assert_works(options())
    end)
  end)

  describe("the agent", function()
    local agent, socket

    before_each(function()
      socket = home .. "/agent"
      agent = assert(proc.start { argv = { "ssh-agent", "-D", "-a", socket }, timeout = 0 })
      while not fs.stat(socket) do timer.sleep(0.01) end
      write("known_hosts", known "*")
    end)
    after_each(function() agent:close() end)

    local function load(name)
      assert.equal(0, assert(proc.run {
        argv = { "ssh-add", "-q", home .. "/.ssh/" .. name }, env = { SSH_AUTH_SOCK = socket },
      }).code)
    end

    it("signs for a locked file, and for a file whose private half is only there", function()
      local private = key("id", "-t rsa -b 2048")
      load "id"
      write("id", private) -- then locked:
      sshd.output(("ssh-keygen -q -p -P '' -N tiger -f %s/.ssh/id"):format(home))
      config(("  IdentityFile %s/.ssh/id\n  IdentityAgent %s\n"):format(home, socket))
      assert_works(options())
      assert(fs.remove(home .. "/.ssh/id"))
      config(("  IdentityFile %s/.ssh/id\n  IdentitiesOnly yes\n  IdentityAgent %s\n"):format(
        home, socket))
      assert_works(options())
    end)

    it("signs with the one key whose public half IdentityFile names", function()
      local _, wanted = key("wanted", "-t ed25519")
      for index = 1, 7 do -- more than sshd's MaxAuthTries
        local name = "other" .. index
        write(name, (server:keygen(name .. math.random(1 << 40), "-t ed25519")))
        load(name)
      end
      load "wanted"
      assert(fs.remove(home .. "/.ssh/wanted"))
      config(("  IdentityFile %s/.ssh/wanted.pub\n  IdentitiesOnly yes\n  IdentityAgent %s\n")
        :format(home, socket))
      local session <close> = ssh.connect(options())
      assert.same({}, session.notes)
      write("named.pub", wanted .. "\n") -- without IdentitiesOnly it comes first
      config(("  IdentityFile %s/.ssh/named.pub\n  IdentityAgent %s\n"):format(home, socket))
      assert_works(options())
    end)

    it("gives all its keys, unless IdentitiesOnly", function()
      key("id", "-t ed25519")
      load "id"
      assert(fs.remove(home .. "/.ssh/id"))
      assert(fs.remove(home .. "/.ssh/id.pub"))
      config(("  IdentityAgent %s\n"):format(socket))
      assert_works(options())
      local by_agent = server:options { agent = socket, within = 30 }
      by_agent.key, by_agent.timeout = nil, nil
      assert_works(by_agent)
      config(("  IdentityFile %s/.ssh/absent\n  IdentitiesOnly yes\n  IdentityAgent %s\n"):format(
        home, socket))
      assert.matches("no private key to log in to web with", raised("auth", options()), 1, true)
    end)
  end)

  it("waits out a host that refuses more logins at a time (MaxStartups)", function()
    local busy <close> = sshd.start { config = "MaxStartups 2:100:2" }
    local tasks = {}
    for index = 1, 12 do
      tasks[index] = function()
        local opts = busy:options { within = 120 }
        opts.timeout = nil
        local session <close> = ssh.connect(opts)
        return session:run("echo yes").out
      end
    end
    for _, out in ipairs(scope.all(tasks)) do assert.equal("yes\n", out) end
    assert.matches("[Mm]ax[Ss]tartups", busy:log())
  end)
end)
