local sshd = require "spec.support.sshd"
local error_ = require "kiln.error"
local fs = require "rt.fs"
local rt_ssh = require "rt.ssh"
local scope = require "kiln.scope"
local ssh = require "kiln.ssh"
local timer = require "rt.timer"
local virtual = require "spec.support.virtual"

describe("kiln.ssh", function()
  local server

  lazy_setup(function() server = sshd.start() end)
  lazy_teardown(function() server:stop() end)

  local function options(of, more)
    local out = {
      host = of.host, port = of.port, user = of.user, key = of.key, host_key = of.host_key,
      within = 10, name = "app-green-1",
    }
    for key, value in pairs(more or {}) do out[key] = value end
    return out
  end

  local function raised(kind, body, ...)
    local ok, err = pcall(body, ...)
    assert.is_false(ok)
    assert.equal(kind, err.kind)
    assert.matches("^" .. kind .. ": ", tostring(err))
    return err
  end

  it("connects with a key from a file and closes at the end of the block", function()
    assert(fs.write(server.dir .. "/id", server.key, { mode = "0600" }))
    local with_file = options(server, { key_file = server.dir .. "/id" })
    with_file.key = nil
    local session <close> = ssh.connect(with_file)
    assert.equal("hi\n", session:run("echo hi").out)
    assert.is_true(session:alive())
    session:close()
    assert.is_false(session:alive())
    raised("not_found", ssh.connect, { host = "x", key_file = "/nope", host_key = "x" })
    raised("usage", ssh.connect, { host = "x", host_key = "x" })
    raised("usage", ssh.connect, { host = "x", host_key = "x", key = "x", wihtin = 3 })
  end)

  it("waits until a machine answers", function()
    local late <close> = sshd.start()
    late:halt()
    local started = timer.now()
    local results = scope.all {
      function()
        local session <close> = ssh.connect(options(late))
        return session:run("echo there").out
      end,
      function()
        timer.sleep(0.4)
        assert.is_true(late:launch())
      end,
    }
    assert.equal("there\n", results[1])
    assert.is_true(timer.now() - started >= 0.4)
  end)

  it("asks a port that refuses again after a tenth of the time that passed, a busy host less often",
    function()
      local connect, times = rt_ssh.connect, {}
      local _ <close> = virtual()
      local _ <close> = setmetatable({}, { __close = function() rt_ssh.connect = connect end })
      local function attempts(code)
        times = {}
        rt_ssh.connect = function()
          times[#times + 1] = timer.now()
          return nil, { kind = "unreachable", message = "no", code = code }
        end
        raised("unreachable", ssh.connect, options(server, { within = 30 }))
        return #times
      end
      local busy = attempts(104) -- ECONNRESET
      assert.is_true(attempts(111) > busy + 15, busy)
      for index = 2, #times do
        local passed = times[index - 1] - times[1]
        assert.is_true(times[index] - times[index - 1] <= 1.3 * math.max(0.1, passed / 10) + 0.05,
          ("attempt %d came %g s after one at %g s"):format(index,
            times[index] - times[index - 1], passed))
      end
    end)

  it("raises unreachable with the machine, the time and the last reason", function()
    local gone <close> = sshd.start()
    gone:halt()
    timer.sleep(0.05)
    local started = timer.now()
    local err = raised("unreachable", ssh.connect, options(gone, { within = 0.5 }))
    assert.matches("app%-green%-1 %(127.0.0.1:%d+%) did not answer SSH within 0.5 s", err.message)
    assert.matches("refused", err.message)
    assert.equal("127.0.0.1", err.host)
    assert.equal("app-green-1", err.machine)
    local spent = timer.now() - started
    assert.is_true(spent > 0.2 and spent < 1)
  end)

  it("gives up at once for a wrong host key and a refused key, unless told to retry", function()
    local _, other = server:keygen("other", "-t ed25519")
    local stranger, public = server:keygen("stranger", "-t ed25519")
    local started = timer.now()
    raised("host_key", ssh.connect, options(server, { host_key = other }))
    raised("auth", ssh.connect, options(server, { key = stranger }))
    assert.is_true(timer.now() - started < 2)
    local results = scope.all {
      function()
        local session <close> = ssh.connect(options(server, {
          key = stranger, retry = { "unreachable", "auth" },
        }))
        return session:alive()
      end,
      function()
        timer.sleep(0.3)
        server:authorize(public)
      end,
    }
    assert.is_true(results[1])
  end)

  describe("a session", function()
    local session, place

    lazy_setup(function()
      session = ssh.connect(options(server))
      place = server.dir .. "/place"
      assert(fs.mkdir(place))
    end)
    lazy_teardown(function() session:close() end)

    it("raises exit with the machine, the status and the last lines", function()
      local err = raised("exit", session.run, session, "seq 20; echo not found >&2; exit 3")
      assert.equal(3, err.code)
      assert.equal("app-green-1", err.machine)
      assert.equal("not found", err.output)
      assert.matches("app-green-1: 'seq 20; echo not found >&2; exit 3' ended with status 3",
        err.message, 1, true)
      err = raised("exit", session.run, session, "seq 20; exit 1")
      assert.equal("16\n17\n18\n19\n20", err.output)
      err = raised("exit", session.run, session, "kill -KILL $$")
      assert.equal("KILL", err.signal)
      assert.matches("was ended by signal KILL", err.message)
    end)

    it("gives the status when check is off", function()
      assert.equal(7, session:run("exit 7", { check = false }).code)
    end)

    it("raises timeout", function()
      local err = raised("timeout", session.run, session, "sleep 9", { timeout = 0.1 })
      assert.matches("^app%-green%-1: ", err.message)
    end)

    it("hands on lines as they come, and the whole at the end", function()
      local lines = {}
      local done = session:run("echo a; sleep 0.02; echo b >&2; echo c", {
        on_line = function(line, stream) lines[#lines + 1] = stream .. line end,
      })
      table.sort(lines)
      assert.same({ "errb", "outa", "outc" }, lines)
      assert.equal("a\nc\n", done.out)
      raised("exit", session.run, session, "echo x; exit 2", { on_line = function() end })
      raised("timeout", session.run, session, "echo x; sleep 9", {
        on_line = function() end, timeout = 0.1,
      })
    end)

    it("leaves the command when the receiver of its lines fails", function()
      local ok, err = pcall(session.run, session, "echo x; sleep 9", {
        on_line = function() error_.raise { kind = "io", message = "full" } end,
      })
      assert.is_false(ok)
      assert.equal("io", err.kind)
    end)

    it("uploads files and folders, writes and downloads", function()
      os.execute(("mkdir -p %s/src && printf one > %s/src/file"):format(place, place))
      session:upload(place .. "/src/file", place .. "/out/file", { mode = "0700" })
      session:upload(place .. "/src", place .. "/tree")
      session:write(place .. "/out/text", "two")
      assert.equal("one", fs.read(place .. "/out/file"))
      assert.equal("one", fs.read(place .. "/tree/file"))
      assert.equal("two", fs.read(place .. "/out/text"))
      session:download(place .. "/out/text", place .. "/back")
      assert.equal("two", fs.read(place .. "/back"))
      local err = raised("not_found", session.upload, session, place .. "/nope", "/x")
      assert.matches("nope", err.message)
      err = raised("not_found", session.download, session, place .. "/nope", place .. "/x")
      assert.matches("^app%-green%-1: ", err.message)
    end)
  end)

  it("raises unreachable when the machine goes away under a command", function()
    local lost <close> = sshd.start()
    local session <close> = ssh.connect(options(lost))
    local ok, err = pcall(scope.all, {
      function() session:run("sleep 9") end,
      function()
        timer.sleep(0.1)
        lost:signal("KILL")
      end,
    })
    assert.is_false(ok)
    assert.equal("unreachable", err.kind)
    assert.is_false(session:alive())
  end)
end)
