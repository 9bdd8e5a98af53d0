---Sessions through other hosts, and ports that lead through a session.
local sshd = require "spec.support.sshd"
local tcp_server = require "spec.support.tcp_server"
local web = require "spec.support.web"
local crypto = require "rt.crypto"
local exec = require "rt.exec"
local http = require "rt.http"
local ssh = require "rt.ssh"
local task = require "rt.task"
local tcp = require "rt.tcp"
local timer = require "rt.timer"

describe("rt.ssh, through another host,", function()
  local jump, target, session

  lazy_setup(function()
    jump = sshd.start { config = "LogLevel DEBUG1" }
    target = sshd.start()
  end)
  lazy_teardown(function()
    target:stop()
    jump:stop()
  end)
  before_each(function() session = assert(ssh.connect(jump:options())) end)
  after_each(function() session:close() end)

  local function failed(kind, said, value, err)
    assert.is_nil(value)
    assert.equal(kind, err.kind, err.message)
    assert.matches(said, err.message, 1, true)
  end

  it("connects, proves the target's own key, and carries commands and data", function()
    local inner = assert(ssh.connect(target:options { via = session }))
    assert.matches("port " .. target.port, jump:log())
    local input = crypto.random(1 << 20):rep(5)
    local tasks = {}
    for index = 1, 4 do
      tasks[index] = task.spawn(function()
        return exec.run(inner, "sha256sum", { stdin = input })
      end)
    end
    for _, one in ipairs(tasks) do
      local _, done = one:join()
      assert.equal(crypto.sha256(input) .. "  -\n", done.out)
    end
    local done = assert(exec.run(inner, "head -c 3000000 /dev/zero", { max_output = 1 << 22 }))
    assert.equal(3000000, #done.out)
    assert.equal("here\n", exec.run(session, "echo here").out)
    inner:close()
    assert.is_true(session:alive())
    failed("host_key", "not the pinned",
      ssh.connect(target:options { via = session, host_key = jump.host_key }))
    session:close() -- and with it the tunnel, which else waits for the target's goodbye
  end)

  it("goes through several, and outlives nobody's handle", function()
    local second <close> = assert(ssh.connect(target:options { via = session }))
    local third <close> = assert(ssh.connect(jump:options { via = second }))
    session:close() -- the value; what goes through it has its own connection to lose
    timer.sleep(0)
    local done, err = exec.run(third, "true")
    assert.is_nil(done)
    assert.equal("unreachable", err.kind)
  end)

  it("ends with unreachable when the host between dies", function()
    local between <close> = sshd.start()
    local first <close> = assert(ssh.connect(between:options()))
    local inner <close> = assert(ssh.connect(target:options { via = first }))
    local waiting = task.spawn(function() return exec.run(inner, "echo before; sleep 60") end)
    timer.sleep(0.3)
    between:signal("KILL")
    local _, done, err = waiting:join()
    assert.is_nil(done)
    assert.equal("unreachable", err.kind)
    assert.equal("before\n", err.out)
  end)

  it("tells a target that does not answer from one that is forbidden", function()
    local closed <close> = sshd.start()
    closed:halt()
    timer.sleep(0.05)
    failed("unreachable", "does not answer from there",
      ssh.connect(target:options { via = session, port = closed.port }))
    local strict <close> = sshd.start { config = "AllowTcpForwarding no" }
    local first <close> = assert(ssh.connect(strict:options()))
    failed("denied", "AllowTcpForwarding", ssh.connect(target:options { via = first }))
    assert.is_true(first:alive())
    first:close()
    assert.has_error(function() ssh.connect(target:options { via = first }) end)
  end)

  it("ends in time when the target is silent, and is cancelled at any moment", function()
    local frozen <close> = sshd.start()
    frozen:signal("STOP", { listener = true })
    local started = timer.now()
    failed("timeout", "no answer in time",
      ssh.connect(frozen:options { via = session, timeout = 0.3 }))
    assert.is_true(timer.now() - started < 2)
    for step = 0, 20 do
      local child = task.spawn(function()
        local inner <close> = assert(ssh.connect(target:options { via = session }))
        exec.run(inner, "cat", { stdin = "some input" })
      end)
      timer.sleep(step * 0.004)
      child:cancel()
      child:join()
    end
    assert.equal("fine\n", exec.run(session, "echo fine").out)
    session:close() -- and with it tunnels that wait for the target's goodbye
  end)

  describe("a forwarded port", function()
    it("carries many requests at once, up and down, to what only the host may see", function()
      local served <close> = web.start(function(request)
        return { body = request.body .. ("x"):rep(200000) }
      end)
      local forward <close> = assert(session:forward { to_port = served.port })
      local tasks = {}
      for index = 1, 8 do
        tasks[index] = task.spawn(function()
          return http.request {
            method = "POST", url = ("http://127.0.0.1:%d/"):format(forward:port()),
            body = ("y"):rep(index * 50000),
          }
        end)
      end
      for index, one in ipairs(tasks) do
        local _, answer, err = one:join()
        assert.is_nil(err)
        assert.equal(index * 50000 + 200000, #answer.body)
      end
      assert.is_nil(forward:failure())
      http.forget()
    end)

    it("passes on that one side has ended, while the other goes on", function()
      local far <close> = assert(ssh.connect(target:options()))
      local forward <close> = assert(session:forward { to_port = target.port })
      local through <close> = assert(ssh.connect(target:options { port = forward:port() }))
      assert.equal("3\n", exec.run(through, "printf abc | wc -c").out)
      assert.is_true(far:alive())
      forward:close()
      timer.sleep(0.05)
      assert.equal("unreachable", select(2, exec.run(through, "true")).kind)
    end)

    it("closes what cannot be connected, and says why", function()
      local closed <close> = sshd.start()
      closed:halt()
      timer.sleep(0.05)
      local forward <close> = assert(session:forward { to_port = closed.port })
      local options = target:options { port = forward:port(), timeout = 3 }
      failed("unreachable", "", ssh.connect(options))
      assert.equal("unreachable", forward:failure().kind)
      assert.matches("does not answer from there", forward:failure().message, 1, true)
      forward:close()
      assert.is_nil(tcp.reach { host = "127.0.0.1", port = forward:port(), timeout = 1 })
    end)

    it("survives peers that hang up early, and its own end with connections open", function()
      local server <close> = tcp_server.start("stall")
      local forward <close> = assert(session:forward { to_port = server.port })
      for _ = 1, 20 do
        assert(tcp.reach { host = "127.0.0.1", port = forward:port(), timeout = 2 })
      end
      local request = task.spawn(function()
        return http.request { url = ("http://127.0.0.1:%d/"):format(forward:port()), timeout = 5 }
      end)
      server:request()
      forward:close()
      local _, answer = request:join()
      assert.is_nil(answer)
      http.forget()
      assert.equal("fine\n", exec.run(session, "echo fine").out)
      session:close()
    end)

    it("is refused for a port that is taken, and for nonsense", function()
      failed("exists", "listening on 127.0.0.1:" .. target.port,
        session:forward { port = target.port, to_port = 1 })
      failed("io", "listening on 203.0.113.1",
        session:forward { host = "203.0.113.1", to_port = 1 })
      assert.has_error(function() session:forward {} end)
      assert.has_error(function() session:forward { to_port = 70000 } end)
      assert.has_error(function() session:forward { to_port = 1, listen = 2 } end)
    end)
  end)

  describe("a port on the host", function()
    it("leads here", function()
      local served <close> = web.start(function(request)
        return { body = "got " .. request.body }
      end)
      local listen <close> = assert(session:listen { to_port = served.port })
      local other <close> = assert(ssh.connect(jump:options()))
      local tasks = {}
      for index = 1, 5 do
        tasks[index] = task.spawn(function()
          return exec.run(other, ("curl -sS --data-binary %d http://127.0.0.1:%d/"):format(index,
            listen:port()))
        end)
      end
      for index, one in ipairs(tasks) do
        local _, done = one:join()
        assert.equal("got " .. index, done.out, done.err)
      end
      session:close()
      timer.sleep(0.1)
      assert.equal(7, exec.run(other, ("curl -sS http://127.0.0.1:%d/"):format(listen:port())).code)
    end)

    it("hangs up where nobody listens here", function()
      local closed <close> = sshd.start()
      closed:halt()
      timer.sleep(0.05)
      local listen <close> = assert(session:listen { to_port = closed.port })
      local other <close> = assert(ssh.connect(jump:options()))
      local done = exec.run(other, ("curl -sS -m 5 http://127.0.0.1:%d/"):format(listen:port()))
      assert.not_equal(0, done.code)
      assert.equal("unreachable", listen:failure().kind)
    end)

    it("is refused where the sshd forbids it, or the port is taken", function()
      failed("denied", "is the port taken", session:listen { port = target.port, to_port = 1 })
      local strict <close> = sshd.start { config = "AllowTcpForwarding local" }
      local first <close> = assert(ssh.connect(strict:options()))
      failed("denied", "AllowTcpForwarding", first:listen { to_port = 1 })
      first:close()
      assert.has_error(function() first:listen { to_port = 1 } end)
    end)
  end)
end)
