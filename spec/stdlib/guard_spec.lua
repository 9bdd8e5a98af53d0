---The guard of commands, on a real sshd without a login session's manager: what it does needs no
---systemd. Its folders lie where they do on any machine.
local sshd = require "spec.support.sshd"
local fault_proxy = require "spec.support.fault_proxy"
local fs = require "rt.fs"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local guard = require "kiln.guard"
local scope = require "kiln.scope"
local ssh = require "kiln.ssh"

local folder = "/var/lib/kiln/guard/"

describe("a guarded command", function()
  if proc.info().uid ~= 0 then
    pending("guards need root")
    return
  end
  local server, dir, key, count = nil, nil, nil, 0

  lazy_setup(function()
    server = sshd.start()
    dir = assert(fs.temp_dir())
  end)
  lazy_teardown(function()
    server:stop()
    assert(fs.remove(dir, { recursive = true }))
    os.remove(folder) -- if it is empty
  end)
  before_each(function()
    count = count + 1
    key = ("spec-%d-%d"):format(proc.info().pid, count)
  end)
  after_each(function()
    os.execute(guard.stop(key) .. " 2>/dev/null")
    fs.remove(folder .. key, { recursive = true })
    fs.remove(dir .. "/runs")
  end)

  local function connect(port)
    return ssh.connect {
      host = server.host, port = port or server.port, user = server.user, key = server.key,
      host_key = server.host_key, within = 20,
    }
  end

  ---What each run of the command leaves a line of.
  local function counted(text) return ("echo run >>%s/runs\n%s"):format(dir, text) end
  local function runs() return fs.read(dir .. "/runs") end

  ---Runs or joins the command on a connection of its own.
  local function attach(text, opts, port)
    local session <close> = connect(port)
    opts = opts or {}
    return session:run(guard.command(key, counted(text), #(opts.stdin or "")), {
      check = false, kill = false, stdin = opts.stdin, on_line = opts.on_line,
    })
  end

  ---Waits for a file of the guard.
  local function appears(name)
    local deadline = timer.now() + 60
    while not fs.stat(folder .. key .. "/" .. name) do
      assert(timer.now() < deadline, "no file " .. name)
      timer.sleep(0.02)
    end
    return fs.read(folder .. key .. "/" .. name)
  end

  ---Runs the command on a connection that `fault` ends; "none": it ends when it has begun and told
  ---so many bytes.
  local function lost(text, fault, opts)
    local proxy <close> = fault_proxy.start(server.port, { fault })
    local listener = task.spawn(function() return attach(text, opts, proxy.ports[fault]) end)
    if fault == "none" then
      appears "pid"
      while #appears "out" < (opts and opts.told or 0) do timer.sleep(0.005) end
      proxy:close()
    end
    local ok, err = listener:join()
    assert.is_false(ok, "the connection was not lost")
    assert.equal("unreachable", err.kind, err.message)
  end

  local function numbers(last, pause)
    return ("i=0; while [ $i -lt %d ]; do i=$((i + 1)); echo $i; %s done"):format(last, pause or "")
  end

  local function lines_to(last)
    local lines = {}
    for number = 1, last do lines[number] = number .. "\n" end
    return table.concat(lines)
  end

  it("gives its output, its errors and its status, the second time too", function()
    local text = "cat; echo wrong >&2; sleep 0.5; exit 7" -- the first hears it as it comes
    for _ = 1, 2 do
      local done = attach(text, { stdin = "in\n" })
      assert.same({ 7, "in\n", "wrong\n" }, { done.code, done.out, done.err })
    end
    assert.equal("run\n", runs())
  end)

  it("goes on when the connection is lost, and the next one reads all of it", function()
    local text = numbers(300, "sleep 0.005;")
    lost(text, "none", { told = 200 })
    local told = {}
    local done = attach(text, { on_line = function(line) told[#told + 1] = line .. "\n" end })
    assert.equal(0, done.code, done.err)
    assert.equal(lines_to(300), done.out)
    assert.equal(lines_to(300), table.concat(told))
    assert.equal("run\n", runs())
  end)

  it("keeps the result of what ended while nobody listened", function()
    local text = "sleep 0.3; echo alone; exit 9"
    lost(text, "none")
    appears "status"
    local done = attach(text)
    assert.same({ 9, "alone\n" }, { done.code, done.out })
    assert.equal("run\n", runs())
  end)

  it("does not begin with a part of its input", function()
    local input = ("0123456789abcde\n"):rep(20000)
    lost("wc -c", "end up 200000", { stdin = input })
    local done = attach("wc -c", { stdin = input })
    assert.same({ 0, #input .. "\n" }, { done.code, done.out })
    assert.equal("run\n", runs())
  end)

  it("loses no line of more output than is kept in memory", function()
    local told = 0
    local done = attach("seq 200000", { on_line = function(line)
      told = told + 1
      if line ~= tostring(told) then error(("line %d is '%s'"):format(told, line)) end
    end })
    assert.equal(200000, told)
    assert.is_true(done.truncated)
    assert.matches("199999\n200000\n$", done.out)
  end)

  it("runs once for two that ask at the same time, and both hear all of it", function()
    local text = numbers(50, "sleep 0.01;")
    local function one() return attach(text) end
    local both = scope.all { one, one }
    for _, done in ipairs(both) do assert.same({ 0, lines_to(50) }, { done.code, done.out }) end
    assert.equal("run\n", runs())
  end)

  it("says that it was killed, also when another process has its number now", function()
    local text = "echo begun; sleep 600"
    lost(text, "none", { told = 6 })
    os.execute("kill -s KILL -- -" .. appears("pid"):match("^(%d+) "))
    local done = attach(text)
    assert.same({ 250, "begun\n" }, { done.code, done.out })
    assert(fs.write(folder .. key .. "/pid", ("%d 1\n"):format(server.pid)))
    assert.equal(250, attach(text).code)
    assert.equal("run\n", runs())
  end)

  it("is ended with its children, also one that hears no SIGTERM", function()
    local text = "trap '' TERM; sleep 600 & wait; while true; do sleep 1; done"
    local session <close> = connect()
    local ok, err = pcall(session.run, session, guard.command(key, counted(text)),
      { kill = false, timeout = 1 })
    assert.is_false(ok)
    assert.equal("timeout", err.kind)
    local pid = assert(appears("pid"):match("^(%d+) "))
    assert.equal(0, session:run(guard.stop(key)).code)
    -- One that was killed has ended, and waits for PID 1 to take notice.
    local left = ("while ps -o stat=,args= -g %s | grep -v '^Z'; do sleep 0.1; done"):format(pid)
    assert.equal(0, session:run(left, { timeout = 30 }).code)
  end)
end)
