local fs = require "rt.fs"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local least = require "spec.support.least"

local function sh(script, options)
  options = options or {}
  options.argv = { "sh", "-c", script }
  return proc.run(options)
end

---Waits until `check` gives a true value, at most 5 s.
local function eventually(check)
  local limit = timer.now() + 5
  while timer.now() < limit do
    if check() then return true end
    timer.sleep(0.02)
  end
  return false
end

describe("rt.proc", function()
  describe("run", function()
    it("says which program is missing", function()
      local result, err = proc.run { argv = { "no-such-program-anywhere", "x" } }
      assert.is_nil(result)
      assert.equal("not_found", err.kind)
      assert.matches("no-such-program-anywhere", err.message, 1, true)
    end)

    it("says when it is the working directory that is missing", function()
      local _, err = proc.run { argv = { "true" }, cwd = "/no/such/dir" }
      assert.equal("not_found", err.kind)
      assert.matches("/no/such/dir", err.message, 1, true)
    end)

    it("says denied for a file that is not executable", function()
      local _, err = proc.run { argv = { "/etc/passwd" } }
      assert.equal("denied", err.kind)
    end)

    it("hands every argument on as it is: no shell", function()
      local result = assert(proc.run { argv = { "printf", "%s|", "a b", "$HOME", "*", "", "'\"" } })
      assert.equal("a b|$HOME|*||'\"|", result.out)
      assert.equal(0, result.code)
    end)

    it("keeps output and errors apart, with zero bytes", function()
      local result = assert(sh [[printf 'o\0ut'; printf 'err' >&2; exit 7]])
      assert.same({ code = 7, out = "o\0ut", err = "err", truncated = false }, result)
    end)

    it("names the signal that ended the program", function()
      local result = assert(sh "kill -KILL $$")
      assert.equal("KILL", result.signal)
      assert.is_nil(result.code)
    end)

    it("lets the program open /dev/stdout and /dev/stderr", function()
      local result = assert(sh "echo a > /dev/stdout; echo b > /dev/stderr")
      assert.equal("a\n", result.out)
      assert.equal("b\n", result.err)
    end)

    it("writes standard input and ends it, also when it is big or not read", function()
      local big = ("0123456789abcdef"):rep(65536)
      assert.equal(big, assert(proc.run { argv = { "cat" }, stdin = big }).out)
      assert.equal(0, assert(proc.run { argv = { "true" }, stdin = big }).code)
      assert.equal("", assert(proc.run { argv = { "cat" } }).out)
      assert.equal("", assert(proc.run { argv = { "cat" }, stdin = "" }).out)
    end)

    it("keeps the end of long output and says so", function()
      local result = assert(sh("seq 1 200000; echo end", { max_output = 1000 }))
      assert.equal(1000, #result.out)
      assert.matches("200000\nend\n$", result.out)
      assert.is_true(result.truncated)
      result = assert(sh("printf abcdef", { max_output = 3 }))
      assert.equal("def", result.out)
      assert.is_true(result.truncated)
      assert.is_false(assert(sh("printf abc", { max_output = 3 })).truncated)
    end)

    it("gives the environment and the directory that were asked for", function()
      local result = assert(sh('echo "$A|$HOME|$(pwd)"', { env = { A = "x=y z" }, cwd = "/usr" }))
      assert.equal("x=y z|" .. os.getenv "HOME" .. "|/usr\n", result.out)
      result = assert(proc.run {
        argv = { "/usr/bin/env" }, env = { ONLY = "1" }, clear_env = true,
      })
      assert.equal("ONLY=1\n", result.out)
      result = assert(proc.run { argv = { "env" }, env = { HOME = "/elsewhere" } })
      local _, count = ("\n" .. result.out):gsub("\nHOME=", "")
      assert.equal(1, count)
    end)

    it("gives the program none of kiln's descriptors", function()
      local open <close> = assert(io.open("/etc/hostname"))
      local result = assert(proc.run { argv = { "ls", "/proc/self/fd" } })
      assert.equal("0\n1\n2\n3\n", result.out) -- 3: the listing itself
      assert.is_not_nil(open)
    end)

    it("runs the program in a session of its own, with signals as by default", function()
      local result = assert(sh [[ps -o pid=,sid=,pgid= -p $$; grep SigIgn /proc/self/status]])
      local pid, sid, group = result.out:match "(%d+)%s+(%d+)%s+(%d+)"
      assert.equal(pid, sid)
      assert.equal(pid, group)
      -- glibc keeps 32 and 33 for itself: who was started with them ignored cannot change that.
      local ignored = tonumber(result.out:match("SigIgn:%s+(%x+)\n"), 16)
      assert.equal(0, ignored & 0x7fffffff)
    end)

    it("ends the whole process group at the deadline and gives what was written", function()
      local result, err = sh("echo started; sleep 100 & echo $!; sleep 100",
        { timeout = 0.2, grace = 1 })
      assert.is_nil(result)
      assert.equal("timeout", err.kind)
      assert.matches("sh did not end within 0.2 s", err.message, 1, true)
      local background = err.out:match "started\n(%d+)"
      assert.is_false(proc.alive(tonumber(background)))
    end)

    it("kills what ignores SIGTERM after the grace time", function()
      local before = timer.now()
      local _, err = sh("trap '' TERM; while :; do sleep 0.05; done",
        { timeout = 0.1, grace = 0.2 })
      assert.equal("timeout", err.kind)
      local took = timer.now() - before
      assert.is_true(took > 0.29 and took < 3, "took " .. took)
    end)

    it("does not wait long for a background child that holds the output open", function()
      local before = timer.now()
      local result = assert(sh "sleep 30 & echo $!")
      assert.equal(0, result.code)
      assert.is_true(timer.now() - before < 3)
      proc.run { argv = { "kill", result.out:match "%d+" } }
    end)

    it("does not wait at all for one that let go of it", function()
      local took = least(0.9, function()
        local before = timer.now()
        local result = assert(sh "sleep 30 >/dev/null 2>&1 & echo $!")
        local seconds = timer.now() - before
        proc.run { argv = { "kill", result.out:match "%d+" } }
        return seconds
      end)
      assert.is_true(took < 0.9, "took " .. took)
    end)

    it("ends and reaps the process group when cancelled", function()
      local mark = assert(fs.temp_dir()) .. "/pids"
      local child = task.spawn(function()
        sh("sleep 100 & echo $! $$ > " .. mark .. "; wait")
      end)
      assert.is_true(eventually(function() return (fs.read(mark) or "") ~= "" end))
      child:cancel()
      local ok, err = child:join()
      assert.is_false(ok)
      assert.equal("cancelled", err.kind)
      local one, two = fs.read(mark):match "(%d+) (%d+)"
      assert.is_true(eventually(function()
        return not fs.stat("/proc/" .. one) and not fs.stat("/proc/" .. two)
      end))
      fs.remove(mark:match "(.*)/", { recursive = true })
    end)

    it("runs many programs at the same time", function()
      local before, tasks = timer.now(), {}
      for i = 1, 20 do
        tasks[i] = task.spawn(function() return sh("sleep 0.2; echo " .. i) end)
      end
      for i = 1, 20 do
        local _, result = tasks[i]:join()
        assert.equal(i .. "\n", result.out)
      end
      assert.is_true(timer.now() - before < 3)
    end)

    it("uses kiln's own streams when told to", function()
      assert.equal(3, assert(sh("exit 3", { inherit = true })).code)
    end)

    it("raises on misuse", function()
      assert.error_matches(function() proc.run { "ls" } end, "argv")
      assert.error_matches(function() proc.run { argv = {} } end, "argv")
      assert.error_matches(function() proc.run { argv = { "ls", 1 } } end, "word of argv")
      assert.error_matches(function() proc.run { argv = { "ls\0x" } } end, "zero byte")
      assert.error_matches(function() proc.run { argv = { "ls" }, shell = true } end, "'shell'")
      assert.error_matches(function() proc.run { argv = { "ls" }, env = { ["A=B"] = "" } } end,
        "cannot be the name")
      assert.error_matches(function() proc.run { argv = { "ls" }, timeout = -1 } end, "timeout")
      assert.error_matches(function() proc.run { argv = { "ls" }, timeout = 0 / 0 } end, "timeout")
    end)
  end)

  describe("start", function()
    local function lines_of(child)
      local lines = {}
      for line, stream in function() return child:read_line() end do
        lines[#lines + 1] = stream .. ":" .. line
      end
      return lines
    end

    it("gives lines as they come, from both streams, the last one without newline too", function()
      local dir = assert(fs.temp_dir())
      local child <close> = assert(proc.start {
        argv = { "sh", "-c", "echo one; until [ -e $0/go ]; do sleep 0.02; done; " ..
          "echo two >&2; sleep 0.1; echo; printf last", dir },
      })
      assert.equal("one", (child:read_line())) -- or it waits for ever
      assert(fs.write(dir .. "/go", ""))
      assert.same({ "err:two", "out:", "out:last" }, lines_of(child))
      assert.is_nil((child:read_line()))
      local result = assert(child:wait())
      assert.equal(0, result.code)
      assert.equal("one\n\nlast", result.out)
      assert(fs.remove(dir, { recursive = true }))
    end)

    it("gives every line of a program that writes faster than it is read", function()
      local child <close> = assert(proc.start { argv = { "seq", "1", "300000" } })
      timer.sleep(0.1)
      local count, sum = 0, 0
      for line in function() return child:read_line() end do
        count, sum = count + 1, sum + tonumber(line)
      end
      assert.equal(300000, count)
      assert.equal(300000 * 300001 // 2, sum)
    end)

    it("waits for a program whose lines nobody reads", function()
      local child <close> = assert(proc.start { argv = { "seq", "1", "1000000" } })
      assert.equal(0, assert(child:wait()).code)
    end)

    it("gives a line above 64 KiB in pieces", function()
      local child <close> = assert(proc.start {
        argv = { "sh", "-c", "head -c 150000 /dev/zero | tr '\\0' x; echo; echo end" },
      })
      local lines = lines_of(child)
      assert.equal("out:end", lines[#lines])
      local total = 0
      for i = 1, #lines - 1 do total = total + #lines[i] - 4 end
      assert.equal(150000, total)
    end)

    it("says which program is missing", function()
      local _, err = proc.start { argv = { "no-such-program-anywhere" } }
      assert.equal("not_found", err.kind)
    end)

    it("ends the program when closed, and whoever waits for it", function()
      local child = assert(proc.start { argv = { "sleep", "100" } })
      local waiter = task.spawn(function() return child:wait() end)
      local reader = task.spawn(function() return "line", child:read_line() end)
      timer.sleep(0.05)
      local pid = child:pid()
      child:close()
      child:close()
      local _, result, err = waiter:join()
      assert.is_nil(result)
      assert.equal("cancelled", err.kind)
      assert.same({ n = 2, true, "line" }, table.pack(reader:join()))
      assert.is_nil((child:read_line()))
      assert.is_true(eventually(function() return not fs.stat("/proc/" .. pid) end))
    end)

    it("ends a program that was forgotten", function()
      local pid = assert(proc.start { argv = { "sleep", "100" } }):pid()
      collectgarbage()
      assert.is_true(eventually(function() return not fs.stat("/proc/" .. pid) end))
    end)

    it("lets a cancelled reader go and the program live", function()
      local child <close> = assert(proc.start { argv = { "sh", "-c", "sleep 0.2; echo late" } })
      local reader = task.spawn(function() child:read_line() end)
      timer.sleep(0.02)
      reader:cancel()
      reader:join()
      assert.equal("late", (child:read_line()))
    end)

    it("refuses a second reader", function()
      local child <close> = assert(proc.start { argv = { "sleep", "100" } })
      local reader = task.spawn(function() child:read_line() end)
      timer.sleep(0)
      assert.error_matches(function() child:read_line() end, "another task reads")
      reader:cancel()
      reader:join()
    end)

    it("sends signals", function()
      local child <close> = assert(proc.start {
        argv = { "sh", "-c",
          "trap 'echo got; exit 5' USR1; echo up; while :; do sleep 0.02; done" },
      })
      assert.equal("up", (child:read_line()))
      child:kill "USR1" -- to the group, so the sleep dies of it and the shell may say so
      local line, stream
      repeat line, stream = child:read_line() until stream ~= "err"
      assert.equal("got", line)
      assert.equal(5, child:wait().code)
      child:kill "KILL" -- gone already: no harm
      assert.error_matches(function() child:kill "NOSUCH" end, "no such signal")
    end)
  end)

  it("leaves no program behind when kiln ends, in whatever way it does", function()
    local dir = assert(fs.temp_dir())
    for _, ending in ipairs { "", "os.exit(4)", "os.exit(4, true)", "error 'x'" } do
      assert(fs.write(dir .. "/program.lua", [[
        local proc, task, timer = require "rt.proc", require "rt.task", require "rt.timer"
        local script = "trap '' TERM; echo $$; sleep 100 & wait; sleep 100"
        local child = proc.start { argv = { "sh", "-c", script } }
        task.spawn(function() proc.run { argv = { "sh", "-c", script } } end)
        io.stdout:write(child:read_line(), "\n")
        io.stdout:flush()
      ]] .. ending))
      local result = assert(proc.run { argv = { proc.info().exe, "lua", dir .. "/program.lua" } })
      local pid = tonumber(result.out:match "^(%d+)\n$")
      assert.is_true(eventually(function() return not proc.alive(pid) end), ending)
    end
    fs.remove(dir, { recursive = true })
  end)

  it("waits for a signal to kiln", function()
    local got = task.spawn(function() return proc.signal "USR1" end)
    timer.sleep(0.02)
    proc.run { argv = { "kill", "-USR1", tostring(proc.info().pid) } }
    assert.same({ n = 2, true, true }, table.pack(got:join()))
    local never = task.spawn(function() proc.signal "SIGUSR2" end)
    timer.sleep(0)
    never:cancel()
    assert.is_false((never:join()))
    assert.has_error(function() proc.signal "KILL" end)
    assert.has_error(function() proc.signal "WHAT" end)
  end)

  it("tells who kiln is and who lives", function()
    local me = proc.info()
    assert.equal(fs.realpath "/proc/self/exe", me.exe)
    assert.matches("^%x+%-%x+%-%x+%-%x+%-%x+$", me.boot_id)
    assert.is_true(#me.user > 0 and #me.host > 0)
    assert.is_true(proc.alive(me.pid))
    assert.is_true(proc.alive(me.pid, me.start_time))
    assert.is_false(proc.alive(me.pid, me.start_time - 1))
    assert.is_false(proc.alive(0x7FFFFFFF))
    assert.is_true(proc.alive(1))
  end)

  it("reads the environment", function()
    assert.equal(os.getenv "PATH", proc.getenv "PATH")
    assert.is_nil(proc.getenv "KILN_NO_SUCH_VARIABLE")
    assert.equal(os.getenv "PATH", proc.environ().PATH)
  end)

  it("tells the first interrupt, and ends at once with the status at the second", function()
    local script = [[
      local proc, timer = require "rt.proc", require "rt.timer"
      local interrupts = proc.interrupts(17)
      require("rt.task").spawn(timer.sleep, 60) -- something to wait for
      io.write("ready\n") io.flush()
      io.write(interrupts:next(), "\n") io.flush()
      if arg[1] == "close" then
        interrupts:close()
        io.write("closed\n") io.flush()
        timer.sleep(0.5)
        os.exit(0)
      end
      while true do end]]
    local path = os.tmpname()
    assert(fs.write(path, script))
    for _, how in ipairs { "end", "close" } do
      local child = assert(proc.start { argv = { fs.realpath "/proc/self/exe", "lua", path, how } })
      assert.equal("ready", child:read_line())
      child:kill "TERM"
      assert.equal("TERM", child:read_line())
      if how == "close" then assert.equal("closed", child:read_line()) end
      child:kill "INT"
      assert.equal(how == "end" and 17 or 0, child:wait().code)
      child:close()
    end
    os.remove(path)
  end)
end)
