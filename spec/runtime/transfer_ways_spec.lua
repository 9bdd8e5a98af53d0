---Uploads over several channels, where the round trip is long.
local delay_proxy = require "spec.support.delay_proxy"
local fault_proxy = require "spec.support.fault_proxy"
local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"
local transfer = require "rt.transfer"

describe("rt.transfer's upload over a long way", function()
  local dir, bytes, sum

  lazy_setup(function()
    dir = assert(fs.temp_dir())
    bytes = crypto.random(1024 * 1024):rep(24) .. "end"
    sum = crypto.sha256(bytes)
    assert(fs.write(dir .. "/big", bytes))
  end)
  lazy_teardown(function() assert(fs.remove(dir, { recursive = true })) end)
  before_each(function()
    fs.remove(dir .. "/there", { recursive = true })
    assert(fs.mkdir(dir .. "/there/tmp", { parents = true }))
  end)

  local function names() return table.concat(assert(fs.list(dir .. "/there")), " ") end
  local function host(config)
    return sshd.start { config = ("SetEnv TMPDIR=%s/there/tmp\n%s"):format(dir, config or "") }
  end
  local function commands(server)
    return select(2, server:log():gsub("Starting session: command", ""))
  end
  local function up(session, options)
    options = options or {}
    return transfer.upload(session, { source = dir .. "/big", target = dir .. "/there/f",
      resume = options.resume, timeout = 60 })
  end
  local function arrived(done)
    assert.same({ #bytes, sum }, { done.bytes, done.sha256 })
    assert.is_true(fs.read(dir .. "/there/f") == bytes)
    assert.equal("f tmp", names())
    assert.same({}, fs.list(dir .. "/there/tmp"))
  end
  ---Waits until the host has cleaned up.
  local function settles(pattern)
    for _ = 1, 500 do
      if names():match(pattern) and #fs.list(dir .. "/there/tmp") == 0 then return end
      timer.sleep(0.02)
    end
    assert.matches(pattern, names())
    assert.same({}, fs.list(dir .. "/there/tmp"))
  end

  it("takes four channels, as many as the host gives, or one", function()
    for config, count in pairs { ["MaxSessions 10"] = 4, ["MaxSessions 2"] = 2,
      ["MaxSessions 1"] = 1 } do
      local server <close> = host(config)
      local far <close> = delay_proxy.start(server.port, 20)
      local session <close> = assert(ssh.connect(server:options { port = far.port }))
      arrived(assert(up(session)))
      assert.equal(count, commands(server), config)
    end
    local server <close> = host()
    local session <close> = assert(ssh.connect(server:options()))
    arrived(assert(up(session)))
  end)

  it("takes one where it is the host that answers late", function()
    local taken
    for _ = 1, 10 do -- this machine may have been late itself, at the login
      local server <close> = host()
      local session <close> = assert(ssh.connect(server:options()))
      server:signal "STOP"
      local child = task.spawn(function() return up(session) end)
      timer.sleep(0.1)
      server:signal "CONT"
      local _, done, err = child:join()
      arrived(assert(done, err))
      taken = commands(server)
      if taken == 1 then break end
    end
    assert.equal(1, taken)
  end)

  it("goes on after a cut with what is whole, and leaves nothing else", function()
    local server <close> = host()
    local far <close> = delay_proxy.start(server.port, 20)
    local faults = { "cut up 3000000", "end up 4000001", "stall up 5000000" }
    local proxy <close> = fault_proxy.start(far.port, faults)
    local left = 0
    for _, fault in ipairs(faults) do
      local session <close> = assert(ssh.connect(server:options { port = proxy.ports[fault],
        keepalive = 1 }))
      local done, err = up(session, { resume = true })
      assert.is_nil(done)
      assert.equal("unreachable", err.kind, err.message)
      session:close()
      server:signal "TERM" -- or a stalled one waits for more
      settles "^f%.kiln%-part%-%x+ tmp$"
      local now = tonumber(sshd.output(("tail -c +%d %s/there/f.kiln-part-* | tail -n 1"):format(
        #bytes + 1, dir)))
      assert.is_true(now > left, ("%d bytes after %d"):format(now, left))
      left = now
    end
    local session <close> = assert(ssh.connect(server:options { port = far.port }))
    local done = assert(up(session, { resume = true }))
    assert.equal(left, done.resumed)
    arrived(done)
  end)

  it("leaves nothing when it is cancelled", function()
    local server <close> = host()
    local far <close> = delay_proxy.start(server.port, 20)
    local session <close> = assert(ssh.connect(server:options { port = far.port }))
    for _, pause in ipairs { 0.02, 0.1, 0.25, 0.5 } do
      local child = task.spawn(function() return up(session) end)
      timer.sleep(pause)
      child:cancel()
      child:join()
      settles "^f? ?tmp$"
      fs.remove(dir .. "/there/f")
    end
    arrived(assert(up(session)))
  end)

  it("fails when one of its channels ends early", function()
    local server <close> = host()
    local far <close> = delay_proxy.start(server.port, 20)
    -- The script of the second of the other channels, or what it runs.
    local script = "$(pgrep -o -f '[s]et -- .?[0-9a-f]{16}.? .?2.? ')"
    for _, kill in ipairs { "kill -KILL " .. script, "pkill -KILL -x dd -P " .. script } do
      local session <close> = assert(ssh.connect(server:options { port = far.port }))
      local child = task.spawn(function() return up(session) end)
      local deadline = timer.now() + 20
      repeat
        timer.sleep(0.005)
        assert(timer.now() < deadline, "there is no such script")
      until os.execute(kill .. " 2>/dev/null")
      local done, err = select(2, child:join())
      assert.is_nil(done)
      assert.equal("io", err.kind, err.message)
      settles "^tmp$"
    end
  end)

  it("says what was wrong on the host in one of its channels", function()
    local server <close> = sshd.start {
      within = "unshare -m sh -c 'mount -t tmpfs -o size=14m tmpfs /mnt && exec \"$@\"' sh" }
    local far <close> = delay_proxy.start(server.port, 20)
    local session <close> = assert(ssh.connect(server:options { port = far.port }))
    for _, resume in ipairs { false, true } do
      local done, err = transfer.upload(session, { source = dir .. "/big", target = "/mnt/f",
        resume = resume, timeout = 60 })
      assert.is_nil(done)
      assert.equal("limit", err.kind, err.message)
      assert.matches("No space left", err.message, 1, true)
    end
  end)

  it("packs a tree, both ways, and one where the way is short not", function()
    local tools, tree = dir .. "/tools", dir .. "/tree"
    assert(fs.mkdir(tools))
    assert(fs.mkdir(tree))
    assert(fs.write(tools .. "/gzip", ([[#!/bin/sh
      echo "$*" >> %s/packed
      exec /bin/gzip "$@"
      ]]):format(tools), { mode = "0755" }))
    assert(fs.write(tree .. "/text", ("a line\n"):rep(100000)))
    assert(fs.write(tree .. "/noise", crypto.random(1024 * 1024):rep(3)))
    local server <close> = host(([[ForceCommand PATH=%s:$PATH; eval "$SSH_ORIGINAL_COMMAND"]])
      :format(tools))
    local far <close> = delay_proxy.start(server.port, 40)
    local function packed(port)
      fs.remove(tools .. "/packed")
      for _, path in ipairs { "/there/t", "/there/back" } do
        fs.remove(dir .. path, { recursive = true })
      end
      local session <close> = assert(ssh.connect(server:options { port = port }))
      assert(transfer.upload_tree(session, { source = tree, target = dir .. "/there/t" }))
      assert(transfer.download_tree(session, { source = dir .. "/there/t",
        target = dir .. "/there/back" }))
      for _, path in ipairs { "/there/t", "/there/back" } do
        assert.equal("", sshd.output(("diff -r %s %s%s"):format(tree, dir, path)))
      end
      return fs.read(tools .. "/packed") or ""
    end
    assert.equal("-d\n-1\n", packed(far.port))
    local near -- what answers late because it is busy looks far: not each time
    for _ = 1, 10 do
      near = packed(server.port)
      if near == "" then break end
    end
    assert.equal("", near)
  end)
end)
