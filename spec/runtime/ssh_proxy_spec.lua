---Sessions through a program: netcat and ssh themselves, and programs that fail in every way.
local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local exec = require "rt.exec"
local fs = require "rt.fs"
local proc = require "rt.proc"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"

local kiln = assert(fs.realpath "/proc/self/exe")

describe("rt.ssh, through a proxy command,", function()
  local server, dir

  lazy_setup(function() server = sshd.start() end)
  lazy_teardown(function() server:stop() end)
  before_each(function() dir = assert(fs.temp_dir()) end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  local function netcat() return { "nc", server.host, tostring(server.port) } end

  ---A program that notes its process id, then does what the script says.
  local function noted(script)
    return { "sh", "-c", "echo $$ >" .. dir .. "/pid.new; mv $0/pid.new $0/pid; " .. script, dir }
  end

  local function connect(words, more)
    local options = { proxy_command = words, host = "not.a.name.invalid", port = 22 }
    for key, value in pairs(more or {}) do options[key] = value end
    return ssh.connect(server:options(options))
  end

  local function failed(kind, said, value, err)
    assert.is_nil(value)
    assert.equal(kind, err.kind, err.message)
    assert.matches(said, err.message, 1, true)
    return err.message
  end

  ---Waits for the program's process id.
  local function pid()
    for _ = 1, 500 do
      if fs.stat(dir .. "/pid") then break end
      timer.sleep(0.01)
    end
    return math.tointeger(tonumber(sshd.read(dir .. "/pid")))
  end

  local function assert_gone(id)
    for _ = 1, 800 do
      if not proc.alive(id) then return end
      timer.sleep(0.01)
    end
    error(("process %d is still there"):format(id))
  end

  it("connects, proves the host's key, and carries commands and data", function()
    local session <close> = assert(connect(netcat()))
    local input = crypto.random(1 << 20):rep(5)
    local tasks = {}
    for index = 1, 4 do
      tasks[index] = task.spawn(function()
        return exec.run(session, "sha256sum", { stdin = input })
      end)
    end
    for _, one in ipairs(tasks) do
      local _, done = one:join()
      assert.equal(crypto.sha256(input) .. "  -\n", done.out)
    end
    local done = assert(exec.run(session, "head -c 3000000 /dev/zero", { max_output = 1 << 22 }))
    assert.equal(3000000, #done.out)
    local _, other = server:keygen("other" .. math.random(1 << 40), "-t ed25519")
    failed("host_key", "not the pinned", connect(netcat(), { host_key = other }))
  end)

  it("goes through another host by ssh itself", function()
    local jump <close> = sshd.start()
    local key, known = dir .. "/key", dir .. "/known_hosts"
    assert(fs.write(key, jump.key, { mode = "0600" }))
    assert(fs.write(known, ("[%s]:%d %s\n"):format(jump.host, jump.port, jump.host_key)))
    local session <close> = assert(connect {
      "ssh", "-F", "none", "-i", key, "-p", tostring(jump.port), "-o", "IdentitiesOnly=yes",
      "-o", "UserKnownHostsFile=" .. known, "-W", ("%s:%d"):format(server.host, server.port),
      ("%s@%s"):format(jump.user, jump.host),
    })
    assert.equal("here\n", assert(exec.run(session, "echo here")).out)
    assert.matches("Accepted publickey", jump:log(), 1, true)
  end)

  it("gives each word to the program as it is, and no descriptor beside the three", function()
    local words = noted [[printf '%s\n' "$@" >$0/words; ls /proc/self/fd >$0/fds
      exec nc "$1" "$2"]]
    for _, word in ipairs { server.host, tostring(server.port), "a  b", "$(touch x)", "'\"", "" } do
      words[#words + 1] = word
    end
    local session = assert(connect(words))
    assert.equal(("%s\n%d\na  b\n$(touch x)\n'\"\n\n"):format(server.host, server.port),
      sshd.read(dir .. "/words"))
    assert.equal("0\n1\n2\n3\n", sshd.read(dir .. "/fds")) -- 3 is ls's own
    local group = sshd.read(("/proc/%d/stat"):format(pid())):match("^.*%) %S+ %d+ (%d+)")
    assert.equal(pid(), math.tointeger(tonumber(group))) -- so Ctrl-C does not reach it
    session:close()
  end)

  it("ends the program with the session", function()
    local session = assert(connect(noted("exec 3<&0; " .. table.concat(netcat(), " ", 1, 3)
      .. " <&3 & wait")))
    local id = pid()
    assert.is_true(proc.alive(id))
    session:close()
    assert_gone(id)
    session = assert(connect(noted("trap '' TERM HUP; " .. table.concat(netcat(), " ", 1, 3))))
    local stubborn = pid()
    session:close()
    assert_gone(stubborn)
  end)

  it("says why a program cannot start", function()
    failed("not_found", "no-such-program", connect { "no-such-program", "x" })
    failed("denied", "/etc/passwd", connect { "/etc/passwd" })
  end)

  it("shows how a program failed, and its last words", function()
    local closed <close> = sshd.start()
    closed:halt()
    timer.sleep(0.05)
    local said = failed("unreachable", "the proxy command 'nc' ended with status 1: nc:",
      connect { "nc", "-v", closed.host, tostring(closed.port) })
    assert.matches("Connection refused", said, 1, true)
    assert.matches("not.a.name.invalid:22", said, 1, true)
    failed("unreachable", "ended with status 9: one; two",
      connect { "sh", "-c", "echo one >&2; echo two >&2; exit 9" })
    failed("unreachable", "was ended by signal 15", connect { "sh", "-c", "kill $$" })
    local long = failed("unreachable", "the end", connect {
      "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1" })
    assert.is_true(#long < 512)
  end)

  it("waits no longer than a second for the words of a program that closed its output", function()
    local started = timer.now()
    failed("unreachable", "the proxy command 'sh' still runs: closing",
      connect(noted "echo closing >&2; exec >&- <&-; sleep 60"))
    assert.is_true(timer.now() - started < 3)
    assert_gone(pid())
  end)

  it("ends in time when the program is silent, and the program with it", function()
    local started = timer.now()
    failed("timeout", "the proxy command 'sh' still runs: waiting", connect(noted
      "echo waiting >&2; cat >/dev/null", { timeout = 0.5 }))
    assert.is_true(timer.now() - started < 2)
    assert_gone(pid())
  end)

  it("shows what a program says that is no ssh", function()
    failed("unreachable", "the host says: HTTP/1.0 403 Forbidden",
      connect { "printf", "HTTP/1.0 403 Forbidden\\r\\n\\r\\n" })
  end)

  it("ends with unreachable when the program is killed, with what came before", function()
    local session <close> = assert(connect(noted("exec " .. table.concat(netcat(), " ", 1, 3))))
    local waiting = task.spawn(function() return exec.run(session, "echo before; sleep 60") end)
    timer.sleep(0.3)
    os.execute("kill -KILL " .. pid())
    local _, done, err = waiting:join()
    assert.equal("before\n", err.out)
    failed("unreachable", "the proxy command 'sh' was ended by signal 9", done, err)
    assert.is_false(session:alive())
  end)

  it("leaves no program when kiln is killed", function()
    local script = dir .. "/killed.lua"
    local options = server:options { proxy_command = noted("exec "
      .. table.concat(netcat(), " ", 1, 3)) }
    local text = {}
    for _, name in ipairs { "host", "port", "user", "key", "host_key" } do
      text[#text + 1] = ("%s = %q"):format(name, options[name])
    end
    for index, word in ipairs(options.proxy_command) do
      options.proxy_command[index] = ("%q"):format(word)
    end
    assert(fs.write(script, ([[
local session <close> = assert(require "rt.ssh".connect { %s, proxy_command = { %s } })
print "open"
require "rt.timer".sleep(60)
]]):format(table.concat(text, ", "), table.concat(options.proxy_command, ", "))))
    local child <close> = assert(proc.start { argv = { kiln, "lua", script } })
    assert.equal("open", (child:read_line()))
    assert.is_true(proc.alive(pid()))
    child:kill "KILL"
    assert_gone(pid())
  end)

  it("is cancelled at any moment", function()
    for step = 0, 20 do
      local child = task.spawn(function()
        local session <close> = assert(connect(netcat()))
        exec.run(session, "cat", { stdin = "some input" })
      end)
      timer.sleep(step * 0.006)
      child:cancel()
      child:join()
    end
  end)

  it("refuses what is no list of words, and a way besides", function()
    assert.has_error(function() connect {} end)
    assert.has_error(function() connect "nc h 22" end)
    assert.has_error(function() connect { "nc", 22.5, {} } end)
    assert.has_error(function() connect { "nc", "zero\0byte" } end)
    local session <close> = assert(ssh.connect(server:options()))
    assert.has_error(function() connect(netcat(), { via = session }) end)
  end)
end)
