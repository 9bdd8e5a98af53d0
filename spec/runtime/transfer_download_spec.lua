local fault_proxy = require "spec.support.fault_proxy"
local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"
local transfer = require "rt.transfer"

---Downloads in a mount namespace of its own where /mnt is small; prints the error's kind.
local onto_a_small_disk = [[
local ssh, transfer, fs = require "rt.ssh", require "rt.transfer", require "rt.fs"
local port, key, host_key, user, source, target, before = table.unpack(arg)
assert(fs.write(target, "old"))
assert(os.execute(before))
local session = assert(ssh.connect { host = "127.0.0.1", port = math.tointeger(port), user = user,
  key = assert(fs.read(key)), host_key = host_key, timeout = 30 })
local done, err = transfer.download(session, { source = source, target = target })
session:close()
print(done and "done" or err.kind, fs.read(target), table.concat(fs.list("/mnt"), " "))
]]

describe("rt.transfer's download", function()
  local server, session, here, there

  lazy_setup(function()
    server = sshd.start()
    session = assert(ssh.connect(server:options()))
  end)
  lazy_teardown(function()
    session:close()
    server:stop()
  end)
  before_each(function() here, there = server:sides() end)

  local function names()
    return table.concat(assert(fs.list(here)), " ")
  end

  local function fails(kind, value, err)
    assert.is_nil(value)
    assert.equal(kind, err.kind, err.message)
    return err
  end

  local function stat(format, path)
    return sshd.output(("stat -c '%s' %s"):format(format, sshd.quote(path)))
  end

  local function get(options)
    options.source = options.source or there .. "/f"
    options.target = options.target or here .. "/f"
    return transfer.download(options.by or session, {
      source = options.source, target = options.target, mode = options.mode,
      resume = options.resume, progress = options.progress,
    })
  end

  it("gives the same file, with its mode and time", function()
    local bytes = crypto.random(1024 * 1024):rep(3)
    assert(fs.write(there .. "/it's", bytes))
    sshd.output(("chmod 4750 %s/it*; touch -d @1234567890 %s/it*"):format(there, there))
    local progress <close> = transfer.progress()
    local done = assert(get { source = there .. "/it's", progress = progress })
    assert.same({ bytes = #bytes, resumed = 0, sha256 = crypto.sha256(bytes) }, done)
    assert.is_true(fs.read(here .. "/f") == bytes)
    assert.equal("750 1234567890", stat("%a %Y", here .. "/f"))
    assert.equal("f", names())
    assert.same({ #bytes, #bytes }, { progress:read() })
    assert(get { source = there .. "/it's", mode = "0604" }) -- over the one that is there
    assert.equal("604", stat("%a", here .. "/f"))
  end)

  it("gives an empty file, and one with holes", function()
    assert(fs.write(there .. "/f", ""))
    assert.equal(0, assert(get {}).bytes)
    assert.equal("0", stat("%s", here .. "/f"))
    sshd.output(("cd %s && truncate -s 40M holes && printf x | dd of=holes seek=5000001 bs=1 "
      .. "conv=notrunc 2>/dev/null"):format(there))
    local done = assert(get { source = there .. "/holes" })
    assert.equal(sshd.output(("sha256sum < %s/f"):format(here)):sub(1, 64), done.sha256)
    assert.equal("41943040", stat("%s", here .. "/f"))
    assert.is_true(tonumber(stat("%b", here .. "/f")) < 1000)
  end)

  it("does not mind what a login shell says", function()
    local loud <close> = sshd.start {
      config = [[ForceCommand echo hello; echo hello >&2; eval "$SSH_ORIGINAL_COMMAND"]],
    }
    local own <close> = assert(ssh.connect(loud:options()))
    assert(fs.write(there .. "/f", "the file\n"))
    for _, resume in ipairs { false, true } do
      assert(get { by = own, resume = resume })
      assert.equal("the file\n", fs.read(here .. "/f"))
    end
    local endless <close> = sshd.start { config = "ForceCommand yes" }
    local other <close> = assert(ssh.connect(endless:options()))
    local err = fails("protocol", get { by = other })
    assert.matches("login shell says more than", err.message)
  end)

  it("says what went wrong and leaves nothing", function()
    assert(fs.write(there .. "/f", "x"))
    fails("not_found", get { source = there .. "/nope" })
    fails("invalid", get { source = there })
    local err = fails("not_found", get { target = here .. "/no/such/f" })
    assert.matches(here .. "/no/such/f", err.message, 1, true)
    fails("invalid", get { target = here })
    assert.equal("", names())
    assert.has_error(function() get { mode = "rw" } end)
  end)

  it("leaves nothing when it is cancelled", function()
    assert(fs.write(there .. "/f", ("x"):rep(4e6)))
    for pause = 0, 20, 4 do
      local child = task.spawn(function() get {} end)
      timer.sleep(pause / 1000)
      child:cancel()
      child:join()
      for _ = 1, 1000 do -- a thread may be at it
        if not names():find "part" then break end
        timer.sleep(0.01)
      end
      assert.matches("^f?$", names())
      fs.remove(here .. "/f")
    end
    assert(get {}) -- the connection is as before
  end)

  it("removes what a killed one left, not what another one writes", function()
    assert(fs.write(there .. "/f", "x"))
    assert(fs.write(here .. "/f.kiln-part-dead", "left"))
    assert(fs.write(here .. "/f.kiln-part-live", "in use"))
    assert(fs.write(here .. "/g.kiln-part-dead", "of another file"))
    local other = assert(proc.start { timeout = 600, argv = { "flock", "-F",
      here .. "/f.kiln-part-live", "sh", "-c", "echo locked; exec sleep 600" } })
    assert.equal("locked", (other:read_line()))
    assert(get {})
    other:kill("KILL")
    other:wait()
    assert.equal("f f.kiln-part-live g.kiln-part-dead", names())
  end)

  it("notices a file that shrinks, and takes of one that grows what it had", function()
    local changing <close> = sshd.start {
      config = ([[ForceCommand PATH=%s:$PATH; eval "$SSH_ORIGINAL_COMMAND"]]):format(there),
    }
    local own <close> = assert(ssh.connect(changing:options()))
    assert(fs.write(there .. "/dd", ("#!/bin/sh\n: > %s/less; echo and more >> %s/more\n"
      .. 'exec /usr/bin/dd "$@"\n'):format(there, there)))
    sshd.output("chmod +x " .. there .. "/dd")
    for _, length in ipairs { 14, 65, 1000 } do
      assert(fs.write(there .. "/less", ("x"):rep(length)))
      local err = fails("io", get { source = there .. "/less", by = own })
      assert.matches("shrank while it was read", err.message)
    end
    assert.equal("", names())
    local bytes = crypto.random(1000)
    assert(fs.write(there .. "/more", bytes))
    assert.equal(crypto.sha256(bytes), assert(get { source = there .. "/more", by = own }).sha256)
    assert.equal(#bytes + #"and more\n", fs.stat(there .. "/more").size)
  end)

  it("goes on with what an interrupted one had brought, and takes nothing wrong", function()
    local bytes = crypto.random(1024 * 1024):rep(12)
    local proxy <close> = fault_proxy.start(server.port, { "cut down 6000000" })
    assert(fs.write(there .. "/f", bytes))
    assert(fs.write(here .. "/f", "old"))
    local function interrupt()
      local own <close> = assert(ssh.connect(server:options {
        port = proxy.ports["cut down 6000000"] }))
      fails("unreachable", get { by = own, resume = true })
      assert.is_true(fs.read(here .. "/f") ~= bytes)
      local part = here .. "/" .. assert(names():match("f%.kiln%-part%-%x+"))
      local open = ("ls -l /proc/%d/fd | grep -F %s"):format(proc.info().pid, part)
      for _ = 1, 500 do -- a write that had begun ends
        if sshd.output(open) == "" then break end
        timer.sleep(0.01)
      end
      return part
    end
    local had = fs.stat(interrupt()).size
    assert.is_true(had > 1000000 and had < 6000000)
    assert.equal("old", fs.read(here .. "/f"))
    local done = assert(get { resume = true })
    assert.same({ bytes = #bytes, resumed = had, sha256 = crypto.sha256(bytes) }, done)
    assert.is_true(fs.read(here .. "/f") == bytes)
    assert.equal("f", names())

    assert(fs.remove(here .. "/f"))
    local file = assert(io.open(interrupt(), "r+b")) -- and somebody changes what lies there
    file:write("changed")
    file:close()
    local err = fails("io", get { resume = true })
    assert.matches("another sha256", err.message)
    assert.equal("", names())

    interrupt()
    bytes = bytes:reverse() -- another file of the same name
    assert(fs.write(there .. "/f", bytes))
    sshd.output(("touch -d @1 %s/f"):format(there))
    done = assert(get { resume = true })
    assert.same({ 0, crypto.sha256(bytes) }, { done.resumed, done.sha256 })
    assert.equal("f", names())
  end)

  it("lets one go on at a time", function()
    assert(fs.write(there .. "/f", crypto.random(1024 * 1024):rep(4)))
    local first, second
    local other = task.spawn(function() first = get { resume = true } end)
    second = get { resume = true }
    other:join()
    assert.is_truthy(first)
    assert.is_truthy(second)
    assert.equal("f", names())
    sshd.output(("touch -d @1 %s/f"):format(there))
    local left = here .. "/f.kiln-part-" .. crypto.sha256(there .. "/f 4194304 1"):sub(1, 16)
    local holder = assert(proc.start { argv = { "flock", "-F", left, "sh", "-c",
      "echo locked; exec sleep 600" }, timeout = 600 })
    assert.equal("locked", (holder:read_line()))
    local err = fails("exists", get { resume = true })
    assert.matches("another download of it is under way", err.message)
    holder:kill("KILL")
    holder:wait()
    assert(get { resume = true })
    assert.equal("f", names())
  end)

  it("says that the disk is full or read-only here, and leaves the old whole", function()
    if server.user ~= "root" then pending "needs root to mount a small file system" return end
    assert(fs.write(there .. "/f", crypto.random(1024 * 1024):rep(3)))
    assert(fs.write(here .. "/script.lua", onto_a_small_disk))
    for kind, before in pairs { limit = "true", denied = "mount -o remount,ro /mnt" } do
      local done = assert(proc.run { argv = { "unshare", "-m", "sh", "-c",
        "mount -t tmpfs -o size=2m tmpfs /mnt && exec \"$@\"", "sh", proc.info().exe, "lua",
        here .. "/script.lua", tostring(server.port), server.dir .. "/user", server.host_key,
        server.user, there .. "/f", "/mnt/f", before } })
      assert.equal(kind .. "\told\tf\n", done.out, done.err)
    end
  end)
end)
