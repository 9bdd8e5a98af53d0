---The user's keys: every kind and format, passphrases, certificates, the agent.
local sshd = require "spec.support.sshd"
local exec = require "rt.exec"
local fs = require "rt.fs"
local proc = require "rt.proc"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"

describe("a key of rt.ssh", function()
  local server

  lazy_setup(function()
    server = sshd.start {
      config = "PubkeyAcceptedAlgorithms ssh-ed25519,ecdsa-sha2-*,rsa-sha2-512,"
        .. "ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,"
        .. "rsa-sha2-512-cert-v01@openssh.com\nTrustedUserCAKeys /dev/null",
    }
  end)
  lazy_teardown(function() server:stop() end)

  local function assert_works(key, to)
    local session, err = ssh.connect((to or server):options { key = key })
    assert.is_nil(err)
    assert.equal("yes\n", exec.run(session, "echo yes").out)
    session:close()
  end

  it("is read in every format that ssh-keygen writes, with and without a passphrase", function()
    local count = 0
    for _, kind in ipairs { "-t ed25519", "-t ecdsa -b 256", "-t ecdsa -b 384", "-t ecdsa -b 521",
      "-t rsa -b 2048" } do
      for _, format in ipairs { "", "-m PKCS8", "-m PEM", "-Z aes256-cbc", "-Z aes128-ctr" } do
        for _, passphrase in ipairs { "", "tiger in the night" } do
          if kind ~= "-t ed25519" or not format:find "^%-m" then
            count = count + 1
            local text, public = server:keygen("key" .. count,
              ("%s %s -a 1 -N '%s'"):format(kind, format, passphrase))
            local key, err = ssh.key {
              text = text, passphrase = passphrase ~= "" and passphrase or nil,
            }
            assert.is_nil(err)
            assert.equal(public:match("^(%S+ %S+)"), key:public())
            if passphrase ~= "" or format == "" then
              server:authorize(public)
              assert_works(key)
            end
          end
        end
      end
    end
    assert.equal(46, count)
  end)

  it("is read in openssl's format for ed25519, which libssh2 refuses from a file", function()
    for _, encrypted in ipairs { "", "-aes256 -pass pass:tiger" } do
      local text = sshd.output("openssl genpkey -algorithm ed25519 " .. encrypted) .. "\n"
      local key = assert(ssh.key { text = text, passphrase = "tiger" })
      server:authorize(key:public())
      assert_works(key)
    end
  end)

  it("is locked without its passphrase, and still tells its public half", function()
    local text, public = server:keygen("locked", "-t ed25519 -a 1 -N tiger")
    local key, err = ssh.key { text = text }
    assert.is_nil(key)
    assert.equal("locked", err.kind)
    assert.equal(public:match("^(%S+ %S+)"), err.public)
    key, err = ssh.key { text = text, passphrase = "lion" }
    assert.is_nil(key)
    assert.equal("auth", err.kind)
    assert.matches("passphrase does not open", err.message, 1, true)
    text = server:keygen("locked_pem", "-t ecdsa -m PKCS8 -N tiger")
    assert.equal("locked", select(2, ssh.key { text = text }).kind)
    assert.equal("auth", select(2, ssh.key { text = text, passphrase = "lion" }).kind)
    local session
    session, err = ssh.connect(server:options { key = text })
    assert.is_nil(session)
    assert.equal("locked", err.kind)
  end)

  it("is opened beside the loop, however long its passphrase takes", function()
    local text = server:keygen("slow", "-t ed25519 -N tiger")
    local idle = task.live().ops
    local ticks, done = 0, false
    local clock = task.spawn(function()
      while not done do
        timer.sleep(0.001)
        ticks = ticks + 1
      end
    end)
    assert(ssh.key { text = text, passphrase = "tiger" })
    done = true
    clock:join()
    assert.is_true(ticks > 10)
    local child = task.spawn(function() return ssh.key { text = text, passphrase = "tiger" } end)
    timer.sleep(0.01)
    child:cancel()
    child:join()
    repeat -- the thread ends by itself
      timer.sleep(0.01)
      timer.sleep(0) -- a sleep's operation ends a turn after it
    until task.live().ops <= idle
  end)

  it("is refused with its reason when it is broken", function()
    local text = server:keygen("whole", "-t rsa -b 2048")
    for cut = 0, #text - 40, 97 do
      local key, err = ssh.key {
        text = text:sub(1, cut) .. "\n-----END OPENSSH PRIVATE KEY-----\n",
      }
      assert.is_nil(key)
      assert.matches("^auth$", err.kind)
    end
    for at = 40, #text - 40, 61 do -- a byte changed: refused, or a key that cannot log in
      local changed = text:sub(1, at) .. (text:sub(at + 1, at + 1) == "A" and "B" or "A")
        .. text:sub(at + 2)
      ssh.key { text = changed }
    end
    assert.has_error(function() ssh.key {} end)
    assert.has_error(function() ssh.key { text = text, pass = "x" } end)
  end)

  it("signs with RSA and SHA-2, the only one that a server may accept", function()
    local only <close> = sshd.start { config = "LogLevel DEBUG2\n"
      .. "PubkeyAcceptedAlgorithms rsa-sha2-512" }
    local text, public = only:keygen("rsa", "-t rsa -b 3072")
    only:authorize(public)
    assert_works(assert(ssh.key { text = text }), only)
    assert.matches("authenticated 1 pkalg rsa-sha2-512", only:log(), 1, true)
  end)

  it("is tried after those that the host refuses, which the error lists", function()
    local keys = {}
    for index = 1, 4 do
      keys[index] = assert(ssh.key {
        text = (server:keygen("refused" .. index, index == 2 and "-t rsa -b 2048" or "-t ecdsa")),
      })
    end
    local session, err = ssh.connect(server:options { key = keys })
    assert.is_nil(session)
    assert.equal("auth", err.kind)
    assert.matches("ecdsa%-sha2%-nistp256 SHA256:%S+ refused1, ssh%-rsa SHA256:%S+ refused2",
      err.message)
    keys[5] = assert(ssh.key { text = server.key })
    assert_works(keys)
    local strict <close> = sshd.start { config = "MaxAuthTries 2" }
    keys[5] = assert(ssh.key { text = strict.key })
    session, err = ssh.connect(strict:options { key = keys })
    assert.is_nil(session)
    assert.equal("auth", err.kind) -- the host hangs up before the fifth
    assert_works({ keys[1], keys[5] }, strict)
  end)

  describe("with a certificate", function()
    local certified

    lazy_setup(function()
      certified = sshd.start()
      certified:keygen("ca", "-t ed25519")
      certified:halt()
      certified.config = ("TrustedUserCAKeys %s/ca.pub"):format(certified.dir)
      assert(certified:launch())
    end)
    lazy_teardown(function() certified:stop() end)

    local function certify(kind)
      local name = kind:match("%w+$")
      local text = certified:keygen(name, kind)
      sshd.output(("cd %s && ssh-keygen -q -s ca -I spec -n %s %s.pub"):format(certified.dir,
        certified.user, name))
      return text, sshd.read(certified.dir .. "/" .. name .. "-cert.pub")
    end

    it("logs in where only the authority is known; 1.10 says what it cannot", function()
      local text, certificate = certify "-t ecdsa"
      assert_works(assert(ssh.key { text = text, certificate = certificate }), certified)
      for _, kind in ipairs { "-t ed25519", "-t rsa" } do
        local key, err
        text, certificate = certify(kind)
        key, err = ssh.key { text = text, certificate = certificate }
        if not ssh.library():find "^1%.10%." then
          assert.is_nil(err)
          assert_works(key, certified)
        else
          assert.is_nil(key)
          assert.equal("unsupported", err.kind)
          assert.matches("certify an ecdsa key (ssh-keygen -t ecdsa), or use libssh2 1.11",
            err.message, 1, true)
        end
      end
    end)

    it("refuses the certificate of another key, and what is none", function()
      local _, certificate = certify "-t ecdsa"
      for _, text in ipairs { certificate, "x", "ssh-ed25519 AAAA", server.host_key } do
        local key, err = ssh.key { text = server.key, certificate = text }
        assert.is_nil(key)
        assert.equal("invalid", err.kind)
      end
    end)
  end)

  describe("of an agent", function()
    local dir, agent, socket

    lazy_setup(function()
      dir = assert(fs.temp_dir())
      socket = dir .. "/agent"
      agent = assert(proc.start { argv = { "ssh-agent", "-D", "-a", socket }, timeout = 0 })
      while not fs.stat(socket) do timer.sleep(0.01) end
      for _, kind in ipairs { "ed25519", "ecdsa", "rsa" } do
        local _, public = server:keygen("agent_" .. kind, "-t " .. kind)
        server:authorize(public)
        assert.equal(0, assert(proc.run {
          argv = { "ssh-add", "-q", server.dir .. "/agent_" .. kind },
          env = { SSH_AUTH_SOCK = socket },
        }).code)
      end
    end)
    lazy_teardown(function()
      agent:close()
      assert(fs.remove(dir, { recursive = true }))
    end)

    it("logs in with each, RSA with SHA-2 too", function()
      local keys = assert(ssh.agent(socket))
      assert.equal(3, #keys)
      for index, kind in ipairs { "ed25519", "ecdsa", "rsa" } do
        assert.equal("agent_" .. kind, keys[index]:comment())
        assert.equal(sshd.read(server.dir .. "/agent_" .. kind .. ".pub"):match("^%S+ %S+"),
          keys[index]:public())
        assert_works(keys[index])
      end
      assert_works(keys)
    end)

    it("never holds the loop: a silent agent ends the login at its time", function()
      local key = assert(ssh.agent(socket))[1]
      agent:kill "STOP"
      local ticks, done = 0, false
      local clock = task.spawn(function()
        while not done do
          timer.sleep(0.01)
          ticks = ticks + 1
        end
      end)
      local session, err = ssh.connect(server:options { key = key, timeout = 0.5 })
      local keys, list_err = ssh.agent(socket, { timeout = 0.2 })
      done = true
      clock:join()
      agent:kill "CONT"
      assert.is_nil(session)
      assert.equal("timeout", err.kind)
      assert.is_nil(keys)
      assert.equal("timeout", list_err.kind)
      assert.is_true(ticks > 20)
      assert_works(key)
    end)

    it("says what to do when there is no agent, or it is none", function()
      local keys, err = ssh.agent(dir .. "/absent")
      assert.is_nil(keys)
      assert.equal("unreachable", err.kind)
      assert.matches("name its socket in SSH_AUTH_SOCK", err.message, 1, true)
      keys, err = ssh.agent(("/x"):rep(100))
      assert.is_nil(keys)
      assert.equal("invalid", err.kind)
    end)

    it("refuses when the agent no longer has it, with the agent's answer", function()
      local keys = assert(ssh.agent(socket))
      assert.equal(0, assert(proc.run {
        argv = { "ssh-add", "-q", "-D" }, env = { SSH_AUTH_SOCK = socket },
      }).code)
      assert.same({}, assert(ssh.agent(socket)))
      local session, err = ssh.connect(server:options { key = keys[1] })
      assert.is_nil(session)
      assert.equal("auth", err.kind)
      assert.matches("the ssh-agent did not sign with the ssh-ed25519 key agent_ed25519",
        err.message, 1, true)
    end)
  end)
end)
