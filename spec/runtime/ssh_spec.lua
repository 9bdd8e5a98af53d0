local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local exec = require "rt.exec"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"

describe("rt.ssh", function()
  local server

  lazy_setup(function() server = sshd.start() end)
  lazy_teardown(function() server:stop() end)

  local function assert_works(options)
    local session, err = ssh.connect(options)
    assert.is_nil(err)
    assert.equal("yes\n", exec.run(session, "echo yes").out)
    session:close()
  end

  it("connects, tells that it is alive, and closes twice", function()
    local session = assert(ssh.connect(server:options()))
    assert.is_true(session:alive())
    session:close()
    assert.is_false(session:alive())
    session:close()
    assert.has_error(function() exec.run(session, "true") end)
  end)

  it("closes at the end of its block", function()
    local kept
    do
      local session <close> = assert(ssh.connect(server:options()))
      kept = session
    end
    assert.is_false(kept:alive())
  end)

  it("takes the key as text, as a secret, opened, and in a list", function()
    local opened = assert(ssh.key { text = server.key })
    local stranger = assert(ssh.key { text = (server:keygen("unknown", "-t ed25519")) })
    for _, key in ipairs { server.key, crypto.secret(server.key), opened, { stranger, opened } } do
      assert_works(server:options { key = key })
    end
  end)

  it("takes a key pair of rt.crypto", function()
    local pair = crypto.ed25519_keypair("spec")
    server:authorize(pair.public)
    assert_works(server:options { key = pair.private })
  end)

  it("takes an ecdsa host key when that is the pinned one", function()
    local ecdsa <close> = sshd.start { host_key = "-t ecdsa" }
    assert_works(ecdsa:options())
  end)

  it("sends nothing after a host key that is not the pinned one", function()
    local strict <close> = sshd.start { config = "LogLevel DEBUG3" }
    local _, other = strict:keygen("other", "-t ed25519")
    local session, err = ssh.connect(strict:options { host_key = other })
    assert.is_nil(session)
    assert.equal("host_key", err.kind)
    assert.matches("SHA256:", err.message)
    timer.sleep(0.2)
    local log = strict:log()
    assert.matches("SSH2_MSG_NEWKEYS sent", log, 1, true)
    assert.not_matches("userauth-request", log, 1, true)
    assert.not_matches("service-request", log, 1, true)
    assert.not_matches("SSH2_MSG_NEWKEYS received", log, 1, true)
    assert_works(strict:options())
    assert.matches("userauth-request", strict:log(), 1, true) -- the log does tell
    assert.matches("SSH2_MSG_NEWKEYS received", strict:log(), 1, true)
  end)

  it("names the host's key types when it has none of the pinned type", function()
    local _, other = server:keygen("other_type", "-t ecdsa")
    local session, err = ssh.connect(server:options { host_key = other })
    assert.is_nil(session)
    assert.equal("host_key", err.kind)
    assert.matches("pinned type (ecdsa-sha2-nistp256), it has ssh-ed25519", err.message, 1, true)
  end)

  it("takes any of several host keys, and asks only for their types", function()
    local both <close> = sshd.start()
    local _, ecdsa = both:keygen("second", "-t ecdsa")
    both:halt()
    both.config = ("HostKey %s/second\nLogLevel DEBUG2"):format(both.dir)
    assert.is_true(both:launch())
    local _, foreign = both:keygen("foreign", "-t ed25519")
    assert_works(both:options { host_key = { foreign, both.host_key } })
    assert_works(both:options { host_key = { ecdsa } }) -- it has an ed25519 key too
    assert.matches("kex: host key algorithm: ecdsa-sha2-nistp256", both:log(), 1, true)
  end)

  it("refuses a revoked host key, also one that is known", function()
    for _, keys in ipairs {
      { "@revoked " .. server.host_key, server.host_key },
      { server.host_key, "@revoked " .. server.host_key },
    } do
      local session, err = ssh.connect(server:options { host_key = keys })
      assert.is_nil(session)
      assert.equal("host_key", err.kind)
      assert.matches("which is revoked; nothing was sent to it", err.message, 1, true)
    end
  end)

  it("fails with auth for a key that the host does not know, naming the user", function()
    local key = server:keygen("stranger", "-t ed25519")
    local session, err = ssh.connect(server:options { key = key })
    assert.is_nil(session)
    assert.equal("auth", err.kind)
    assert.matches("refused the key for user " .. server.user, err.message, 1, true)
  end)

  it("never shows what was given as a key", function()
    local session, err = ssh.connect(server:options { key = "-----BEGIN SECRET-----\nxyzzy" })
    assert.is_nil(session)
    assert.equal("auth", err.kind)
    assert.not_matches("xyzzy", err.message, 1, true)
  end)

  it("raises for options that are missing, wrong or unknown", function()
    assert.has_error(function() ssh.connect(server:options { host_key = false }) end)
    local options = server:options()
    options.host_key = nil
    assert.error_matches(function() ssh.connect(options) end, "host_key")
    assert.error_matches(function() ssh.connect(server:options { usr = "x" }) end, "usr")
    assert.error_matches(function() ssh.connect(server:options { port = 0 }) end, "port")
    assert.error_matches(function() ssh.connect(server:options { key = {} }) end, "no key")
    assert.has_error(function() ssh.connect(server:options { key = { "text" } }) end)
    assert.has_error(function() ssh.connect(server:options { host_key = { {} } }) end)
    for _, bad in ipairs { "", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAA" } do
      local session, err = ssh.connect(server:options { host_key = bad })
      assert.is_nil(session)
      assert.equal("invalid", err.kind)
    end
  end)

  it("fails with unreachable where nobody listens", function()
    local closed <close> = sshd.start()
    closed:halt()
    timer.sleep(0.05)
    local session, err = ssh.connect(closed:options())
    assert.is_nil(session)
    assert.equal("unreachable", err.kind)
    assert.matches("refused", err.message)
    session, err = ssh.connect(server:options { host = "no-such-host.invalid", timeout = 5 })
    assert.is_nil(session)
    assert.matches("^unreachable$", err.kind)
  end)

  it("fails with timeout when the host accepts but never speaks", function()
    local frozen <close> = sshd.start()
    frozen:signal("STOP", { listener = true })
    local started = timer.now()
    local session, err = ssh.connect(frozen:options { timeout = 0.3 })
    assert.is_nil(session)
    assert.equal("timeout", err.kind)
    assert.is_true(timer.now() - started < 10)
  end)

  it("leaves nothing behind when cancelled at any moment", function()
    for step = 0, 40 do
      local child = task.spawn(function()
        local session <close> = assert(ssh.connect(server:options()))
        for _ = 1, 3 do exec.run(session, "echo x; cat", { stdin = "some input" }) end
      end)
      timer.sleep(step * 0.002)
      child:cancel()
      child:join()
    end
  end)

  it("notices a frozen host by its silence, and closes without waiting for it", function()
    local frozen <close> = sshd.start()
    local session = assert(ssh.connect(frozen:options { keepalive = 1 }))
    local other = assert(ssh.connect(frozen:options()))
    local waiting = task.spawn(function() return exec.run(other, "sleep 60") end)
    timer.sleep(0.1)
    frozen:signal("STOP")
    local started = timer.now()
    waiting:cancel()
    waiting:join()
    other:close()
    assert.is_true(timer.now() - started < 5)
    local done, err = exec.run(session, "sleep 60")
    assert.is_nil(done)
    assert.equal("unreachable", err.kind)
    assert.matches("silent", err.message)
    assert.is_true(timer.now() - started < 30)
    assert.is_false(session:alive())
    session:close()
  end)

  it("ends what runs with unreachable when the connection is lost", function()
    local lost <close> = sshd.start()
    local session <close> = assert(ssh.connect(lost:options()))
    local waiting = task.spawn(function() return exec.run(session, "echo before; sleep 60") end)
    timer.sleep(0.2)
    local started = timer.now()
    lost:signal("KILL")
    local _, done, err = waiting:join()
    assert.is_nil(done)
    assert.equal("unreachable", err.kind)
    assert.equal("before\n", err.out)
    assert.is_true(timer.now() - started < 10)
    assert.is_false(session:alive())
    done, err = exec.run(session, "true")
    assert.is_nil(done)
    assert.equal("unreachable", err.kind)
  end)
end)
