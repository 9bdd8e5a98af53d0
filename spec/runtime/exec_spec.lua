local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local exec = require "rt.exec"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"

describe("rt.exec", function()
  local server, session

  lazy_setup(function()
    server = sshd.start()
    session = assert(ssh.connect(server:options()))
  end)
  lazy_teardown(function()
    session:close()
    server:stop()
  end)

  it("gives output, errors and status apart", function()
    local done = exec.run(session, "echo out; echo err >&2; exit 3")
    assert.same({ code = 3, out = "out\n", err = "err\n", truncated = false }, done)
  end)

  it("gives the signal that ended a command, not a status", function()
    local done = exec.run(session, "kill -KILL $$")
    assert.equal("KILL", done.signal)
    assert.equal(-1, done.code)
  end)

  it("gives empty input, text, or a secret to the command", function()
    assert.equal("", exec.run(session, "cat").out)
    assert.equal("text", exec.run(session, "cat", { stdin = "text" }).out)
    assert.equal("hush", exec.run(session, "cat", { stdin = crypto.secret "hush" }).out)
  end)

  it("moves much in both directions at once", function()
    local text = crypto.random(1024 * 1024):rep(3)
    local done = exec.run(session, "tee /dev/stderr", {
      stdin = text, max_output = 4 * 1024 * 1024,
    })
    assert.is_true(done.out == text)
    assert.is_true(done.err == text)
  end)

  it("ends when the command does not read its input", function()
    local done = exec.run(session, "exit 5", { stdin = ("x"):rep(8 * 1024 * 1024) })
    assert.equal(5, done.code)
    done = exec.run(session, "head -c 3", { stdin = ("x"):rep(8 * 1024 * 1024) })
    assert.equal("xxx", done.out)
  end)

  it("reads the input of a command that closed its output", function()
    local path = server.dir .. "/closed"
    local done = exec.run(session, "exec >&- 2>&-; sleep 0.2; cat > " .. path, {
      stdin = ("y"):rep(4 * 1024 * 1024),
    })
    assert.equal(0, done.code)
    assert.equal(4 * 1024 * 1024, #sshd.read(path))
  end)

  it("keeps the last bytes of a long output", function()
    local done = exec.run(session, "seq 100000", { max_output = 100 })
    assert.is_true(done.truncated)
    assert.equal(100, #done.out)
    assert.matches("\n100000\n$", done.out)
  end)

  it("brings all of its input to a command that takes it late, or slowly", function()
    local input = ("0123456789"):rep(500000)
    local late = assert(exec.run(session, "sleep 0.5; wc -c", { stdin = input }))
    assert.equal("5000000", late.out:match("%d+"))
    local slow = assert(exec.run(session, "while dd bs=1M count=1 iflag=fullblock 2>&1 >/dev/null "
      .. "| grep -q '^[1-9][0-9]* bytes'; do sleep 0.1; done; echo all; wc -c", { stdin = input }))
    assert.equal("all 0", (slow.out:gsub("%s+", " "):match("^all %d+")))
  end)

  it("fails with timeout and what was printed so far", function()
    local started = timer.now()
    local done, err = exec.run(session, "echo begun; sleep 20", { timeout = 0.3 })
    assert.is_nil(done)
    assert.equal("timeout", err.kind)
    assert.equal("begun\n", err.out)
    assert.is_true(timer.now() - started < 10)
  end)

  it("gives the slots of commands that were left back", function()
    for _ = 1, 12 do -- sshd's default is 10 sessions
      local _, err = exec.run(session, "exec sleep 1", { timeout = 0.05 })
      assert.equal("timeout", err.kind)
    end
    assert.equal("on\n", exec.run(session, "echo on", { timeout = 5 }).out)
  end)

  it("runs a command that does not fit a packet, but not on a terminal", function()
    local long = "true " .. ("x"):rep(40000) .. "; cat; exit 5"
    local done = assert(exec.run(session, long, { stdin = "in" }))
    assert.same({ 5, "in", "" }, { done.code, done.out, done.err })
    local refused, err = exec.run(session, long, { pty = true })
    assert.is_nil(refused)
    assert.equal("invalid", err.kind)
    assert.matches("upload it as a script", err.message)
  end)

  it("raises for a command with a zero byte, which would lose its end", function()
    assert.error_matches(function() exec.run(session, "echo a\0b") end, "zero byte")
    assert.error_matches(function() exec.start(session, "echo a\0b") end, "zero byte")
  end)

  it("runs many commands at once on one connection", function()
    local tasks = {}
    for i = 1, 40 do
      tasks[i] = task.spawn(function() return exec.run(session, "sleep 0.05; echo " .. i) end)
    end
    for i = 1, 40 do
      local _, done, err = tasks[i]:join()
      assert.is_nil(err)
      assert.equal(i .. "\n", done.out)
    end
  end)

  it("starts commands with and without a terminal at once", function()
    local tasks = {}
    for i = 1, 40 do
      tasks[i] = task.spawn(function()
        return exec.run(session, "test -t 1; echo $? " .. i, { pty = i % 2 == 0 })
      end)
    end
    for i = 1, 40 do
      local _, done, err = tasks[i]:join()
      assert.is_nil(err)
      assert.equal(i % 2 == 0 and ("0 %d\r\n"):format(i) or ("1 %d\n"):format(i), done.out)
    end
  end)

  it("waits for a slot where the host allows fewer", function()
    local narrow <close> = sshd.start { config = "MaxSessions 2" }
    local tight <close> = assert(ssh.connect(narrow:options()))
    local tasks = {}
    for i = 1, 10 do
      tasks[i] = task.spawn(function() return exec.run(tight, "sleep 0.05; echo " .. i) end)
    end
    for i = 1, 10 do
      local _, done, err = tasks[i]:join()
      assert.is_nil(err)
      assert.equal(i .. "\n", done.out)
    end
  end)

  it("says so when the host opens no channel at all", function()
    local none <close> = sshd.start { config = "MaxSessions 0" }
    local tight <close> = assert(ssh.connect(none:options()))
    local done, err = exec.run(tight, "true", { timeout = 10 })
    assert.is_nil(done)
    assert.equal("limit", err.kind)
  end)

  it("goes on through key exchanges in the middle", function()
    local rekeys <close> = sshd.start { config = "RekeyLimit 256K" }
    local often <close> = assert(ssh.connect(rekeys:options()))
    local text = crypto.random(1024 * 1024):rep(3)
    local done, err = exec.run(often, "cat", { stdin = text, max_output = 4 * 1024 * 1024 })
    assert.is_nil(err)
    assert.is_true(done.out == text)
  end)

  it("ends what runs with cancelled when the session is closed", function()
    local own = assert(ssh.connect(server:options()))
    local waiting = task.spawn(function() return exec.run(own, "sleep 20") end)
    timer.sleep(0.1)
    own:close()
    local _, done, err = waiting:join()
    assert.is_nil(done)
    assert.equal("cancelled", err.kind)
  end)

  it("leaves nothing behind when cancelled at any moment", function()
    for step = 0, 30 do
      local child = task.spawn(function()
        exec.run(session, "cat; sleep 0.02", { stdin = ("x"):rep(1024 * 1024) })
      end)
      timer.sleep(step * 0.001)
      child:cancel()
      child:join()
    end
    assert.equal("on\n", exec.run(session, "echo on").out)
  end)

  it("gives a terminal when asked, and hangs up what runs on it", function()
    local done = assert(exec.run(session, "test -t 0 && test -t 1 && tty; echo x >&2", {
      pty = true,
    }))
    assert.equal(0, done.code)
    assert.matches("^/dev/pts/%d+\r\nx\r\n$", done.out)
    assert.equal("", done.err)
    assert.equal(1, assert(exec.run(session, "test -t 0")).code)
    local _, err = exec.run(session, "echo $$; exec sleep 30", { pty = true, timeout = 0.5 })
    assert.equal("timeout", err.kind)
    local gone = ("until ! kill -0 %d 2>/dev/null; do sleep 0.05; done"):format(
      err.out:match("%d+"))
    assert.equal(0, assert(exec.run(session, gone, { timeout = 10 })).code)
  end)

  it("takes its input from a file, after that of a text", function()
    local path = server.dir .. "/input"
    local text = crypto.random(1 << 20):rep(3)
    sshd.write(path, text)
    local done = assert(exec.run(session, "sha256sum", { stdin_file = path }))
    assert.equal(crypto.sha256(text) .. "  -\n", done.out)
    sshd.write(path, "two")
    assert.equal("one two", exec.run(session, "cat", { stdin = "one ", stdin_file = path }).out)
    local missing, err = exec.run(session, "cat", { stdin_file = server.dir .. "/absent" })
    assert.is_nil(missing)
    assert.equal("not_found", err.kind)
    missing, err = exec.run(session, "cat", { stdin_file = server.dir })
    assert.is_nil(missing)
    assert.matches("^i", err.kind) -- io, or invalid for a directory
  end)

  describe("a channel", function()
    it("gives the lines of both streams in order, then nil, then the result", function()
      local channel <close> = assert(exec.start(session,
        "echo one; sleep 0.02; echo two >&2; sleep 0.02; echo; printf last; exit 4"))
      local lines = {}
      for line, stream in channel.read_line, channel do
        lines[#lines + 1] = stream .. ":" .. line
      end
      assert.same({ "out:one", "err:two", "out:", "out:last" }, lines)
      assert.is_nil((channel:read_line()))
      local done = channel:result()
      assert.equal(4, done.code)
      assert.equal("one\n\nlast", done.out)
    end)

    it("gives a line when it comes, not at the end", function()
      local channel <close> = assert(exec.start(session, "echo now; sleep 20"))
      local started = timer.now()
      assert.equal("now", (channel:read_line()))
      assert.is_true(timer.now() - started < 2)
    end)

    it("loses no line to a slow reader", function()
      local channel <close> = assert(exec.start(session, "seq 400000"))
      timer.sleep(0.3)
      local count = 0
      for line in channel.read_line, channel do
        count = count + 1
        assert(line == tostring(count))
      end
      assert.equal(400000, count)
    end)

    it("gives a line without end in pieces", function()
      local channel <close> = assert(exec.start(session, "head -c 200000 /dev/zero | tr '\\0' x"))
      local total, pieces = 0, 0
      for piece in channel.read_line, channel do
        total, pieces = total + #piece, pieces + 1
      end
      assert.equal(200000, total)
      assert.is_true(pieces > 1 and pieces < 10)
    end)

    it("drops unread lines when only the result is wanted", function()
      local channel <close> = assert(exec.start(session, "seq 300000; echo end", {
        max_output = 10,
      }))
      assert.equal("00000\nend\n", channel:result().out)
    end)

    it("gives the failure to its reader", function()
      local channel <close> = assert(exec.start(session, "echo a; sleep 20", { timeout = 0.2 }))
      assert.equal("a", (channel:read_line()))
      local line, err = channel:read_line()
      assert.is_nil(line)
      assert.equal("timeout", err.kind)
      line, err = channel:result()
      assert.is_nil(line)
      assert.equal("timeout", err.kind)
    end)

    it("wakes its reader when closed", function()
      local channel = assert(exec.start(session, "sleep 20"))
      local reader = task.spawn(function() return channel:read_line() end)
      timer.sleep(0.05)
      assert.error_matches(function() channel:read_line() end, "another task")
      channel:close()
      local _, line, err = reader:join()
      assert.is_nil(line)
      assert.equal("cancelled", err.kind)
      channel:close()
    end)

    it("can be left by a cancelled reader and read on", function()
      local channel <close> = assert(exec.start(session, "sleep 0.1; echo late"))
      local reader = task.spawn(function() return channel:read_line() end)
      timer.sleep(0.02)
      reader:cancel()
      reader:join()
      assert.equal("late", (channel:read_line()))
    end)

    it("may be forgotten", function()
      assert(exec.start(session, "sleep 20"))
      collectgarbage()
      collectgarbage()
    end)
  end)
end)
