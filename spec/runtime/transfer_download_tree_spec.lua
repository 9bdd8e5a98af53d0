local fault_proxy = require "spec.support.fault_proxy"
local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"
local transfer = require "rt.transfer"

---What a tree is, in lines; hard links by their count.
local describe_tree = [[cd %s && find . -printf '%%p %%y %%m %%n %%l %%TY\n' | sort &&
  find . -type f -exec sha256sum {} + | sort]]

describe("a tree that is downloaded", function()
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

  local function names() return table.concat(assert(fs.list(here)), " ") end
  local function run(text) return sshd.output(("cd %s && %s"):format(there, text)) end
  local function tree(path) return sshd.output(describe_tree:format(path)) end

  local function get(options)
    options = options or {}
    return transfer.download_tree(options.by or session, {
      source = options.source or there, target = options.target or here .. "/t",
      replace = options.replace, exclude = options.exclude, timeout = 60,
    })
  end

  local function fails(kind, value, err)
    assert.is_nil(value)
    assert.equal(kind, err.kind, err.message)
    return err
  end

  ---Waits until nothing unfinished is left.
  local function settles(expected)
    for _ = 1, 500 do
      if names() == expected then return end
      timer.sleep(0.02)
    end
    assert.equal(expected, names())
  end

  it("keeps files, folders, links, modes, times, holes and any name", function()
    for _, name in ipairs { "-rf", "*", " ", "a\nb", "caf\xe9", "\xf0\x9f\x94\xa5", ("n"):rep(255),
      "a=b", "'\"`", "%s" } do
      assert(fs.write(there .. "/" .. name, name))
    end
    run [[mkdir -p deep/er empty closed && printf x > deep/er/f && ln deep/er/f hard &&
      ln -s deep/er/f soft && ln -s /etc/passwd away && ln -s nowhere dangling && : > none &&
      truncate -s 20M holes && printf y | dd of=holes seek=9000000 bs=1 conv=notrunc 2>/dev/null &&
      chmod 0640 none && chmod 0751 deep && touch -d 2001-01-01 deep/er/f empty &&
      touch -h -d 2002-01-01 soft && chmod 0500 closed]]
    local long = ("d"):rep(100)
    run(("mkdir -p %s/%s/%s && printf z > %s/%s/%s/f"):format(long, long, long, long, long, long))
    local done = assert(get())
    assert.equal(tree(there), tree(here .. "/t"))
    assert.equal("t", names())
    assert.is_true(done.bytes > 20000000)
    assert.is_true(tonumber(sshd.output("stat -c %b " .. here .. "/t/holes")) < 1000)
  end)

  it("takes no set-id bits, and leaves out what is excluded", function()
    run [[printf x > tool && chmod 6755 tool && mkdir -p build sub/build docs && : > build/a &&
      : > sub/build/b && : > sub/c.o && : > docs/d.tmp && : > sub/d.tmp]]
    assert(get { exclude = { "*.o", "/build/", "docs/*.tmp" } })
    assert.equal("755", sshd.output("stat -c %a " .. here .. "/t/tool"))
    assert.equal(". ./docs ./sub ./sub/build ./sub/build/b ./sub/d.tmp ./tool",
      sshd.output(("cd %s/t && find . | LC_ALL=C sort | xargs"):format(here)))
  end)

  it("replaces a tree only when asked, and whole", function()
    run ": > new"
    assert(fs.mkdir(here .. "/t"))
    assert(fs.write(here .. "/t/old", "x"))
    fails("exists", get())
    assert.equal("old", table.concat(fs.list(here .. "/t"), " "))
    assert(get { replace = true })
    assert.equal("new", table.concat(fs.list(here .. "/t"), " "))
    assert.equal("t", names())
    assert.has_error(function() get { target = "/etc", replace = true } end)
  end)

  it("lets nothing out of the tree", function()
    local tools, outside = server.dir .. "/tools", server.dir .. "/outside"
    assert(fs.mkdir(tools, { parents = true }))
    assert(fs.mkdir(outside))
    assert(fs.write(outside .. "/victim", "whole"))
    assert(fs.write(tools .. "/tar", ("#!/bin/sh\ncat %s/evil.tar\n"):format(tools),
      { mode = "0755" }))
    local evil <close> = sshd.start {
      config = ([[ForceCommand PATH=%s:$PATH; eval "$SSH_ORIGINAL_COMMAND"]]):format(tools),
    }
    local own <close> = assert(ssh.connect(evil:options()))
    local archives = {
      { "up", "printf x > f && tar -P --transform 's,^f,../escaped,' -cf %s f" },
      { "absolute", "printf x > f && tar -P --transform 's,^f,%s,' -cf %%s f" },
      { "through a link", "mkdir 1 2 && ln -s %s 1/l && mkdir 2/l && printf x > 2/l/victim && "
        .. "tar -C 1 -cf %%s l && tar -C 2 -rf %%s l/victim" },
      { "a hard link up", "printf x > f && ln f g && "
        .. "tar -P --transform 's,^f$,../../outside/victim,RSh' -cf %s f g" },
      { "a hard link through a link", "mkdir 1 2 && ln -s %s 1/l && mkdir 2/l && "
        .. "printf x > 2/l/victim && ln 2/l/victim 2/z && tar -C 1 -cf %%s l && "
        .. "tar -C 2 --no-recursion -rf 3.tar l/victim z && tar -C 2 -cf 4.tar l/victim z && "
        .. "tar --delete -f 4.tar l/victim && tar -Af %%s 4.tar" },
      { "a device", "mknod d c 1 3 && tar -cf %s d" },
      { "a pipe", "mkfifo p && tar -cf %s p" },
      { "no tar", "head -c 100000 /dev/urandom > %s" },
    }
    for _, archive in ipairs(archives) do
      local what, command = archive[1], archive[2]
      if what == "absolute" then command = command:format(outside .. "/victim") end
      if what:find "through" then command = command:format(outside) end
      sshd.output(("rm -rf %s/w && mkdir %s/w && cd %s/w && %s"):format(tools, tools, tools,
        (command:gsub("%%s", tools .. "/evil.tar"))))
      local done, err = get { by = own }
      if done then -- links may be there, but lead nowhere that was touched
        assert.equal("through a link", what)
        assert(fs.remove(here .. "/t", { recursive = true }))
      else
        assert.is_truthy(({ invalid = 1, io = 1, exists = 1, not_found = 1 })[err.kind],
          what .. ": " .. err.kind .. ": " .. err.message)
      end
      assert.equal("", names(), what)
      assert.equal("whole", fs.read(outside .. "/victim"), what)
      assert.equal("victim", table.concat(fs.list(outside), " "), what)
    end
  end)

  it("says what went wrong and leaves nothing", function()
    run ": > f"
    fails("not_found", get { source = there .. "/nope" })
    fails("invalid", get { source = there .. "/f" })
    fails("not_found", get { target = here .. "/no/such/t" })
    local err = fails("invalid", transfer.download(session, { source = there,
      target = here .. "/f" }))
    assert.equal(83, err.code)
    settles ""
  end)

  it("removes what killed ones left, not what another one writes", function()
    local words = {}
    for key, value in pairs(server:options()) do
      words[#words + 1] = ("%s = %q"):format(key, value)
    end
    sshd.write(server.dir .. "/killed.lua", ([[
      local session = assert(require "rt.ssh".connect { %s })
      require "rt.transfer".download_tree(session,
        { source = %q, target = %q, replace = true, timeout = 60 })]]):format(
      table.concat(words, ", "), there, here .. "/t"))
    local function start()
      return assert(proc.start { timeout = 600, argv = { proc.info().exe, "lua",
        server.dir .. "/killed.lua" } })
    end
    assert(fs.write(there .. "/big", crypto.random(1000000):rep(30)))
    for index = 1, 500 do assert(fs.write(there .. "/" .. index, "x")) end
    assert(fs.mkdir(here .. "/t"))
    local function there_is(sign)
      for _, name in ipairs(assert(fs.list(here))) do
        if name:find("^t%.kiln%-%x+" .. sign .. "$") then return true end
      end
    end
    -- The archive comes, is there, is unpacked.
    for _, sign in ipairs { "%.tar%.kiln%-part%-%x+", "%.tar", "" } do
      local other = start()
      for _ = 1, 1e6 do
        if there_is(sign) then break end
        timer.sleep(0)
      end
      other:kill("KILL")
      other:wait()
      assert.is_true(there_is(sign), sign)
    end
    local before, live = names(), start()
    local function writes() -- then it has its lock
      for _, name in ipairs(assert(fs.list(here))) do
        local new = not before:find(name, 1, true) and fs.stat(here .. "/" .. name)
        if new and new.size > 0 then return true end
      end
    end
    for _ = 1, 1e6 do
      if writes() then break end
      timer.sleep(0)
    end
    live:kill("STOP")
    assert(get { replace = true })
    assert.matches("^t t%.kiln%-%x+%.tar%.kiln%-part%-%x+$", names())
    live:kill("CONT")
    live:wait()
    assert.equal("t", names())
    assert.equal(tree(there), tree(here .. "/t"))
  end)

  it("leaves the old whole when it is cut or cancelled anywhere", function()
    assert(fs.write(there .. "/big", crypto.random(1000000)))
    for index = 1, 50 do assert(fs.write(there .. "/" .. index, crypto.random(1000))) end
    assert(fs.mkdir(here .. "/t"))
    assert(fs.write(here .. "/t/old", "x"))
    local faults = {}
    -- Packed or not, more bytes than these come.
    for at = 4000, 1050000, 90000 do faults[#faults + 1] = "cut down " .. at end
    local proxy <close> = fault_proxy.start(server.port, faults)
    for _, fault in ipairs(faults) do
      local own <close> = assert(ssh.connect(server:options { port = proxy.ports[fault],
        keepalive = 60 }))
      local started = timer.now()
      fails("unreachable", get { by = own, replace = true })
      assert.is_true(timer.now() - started < 30, "the cut is seen when it happens")
      settles "t"
      assert.equal("old", table.concat(fs.list(here .. "/t"), " "))
    end
    for pause = 0, 60, 10 do
      local child = task.spawn(function() return get { replace = true } end)
      timer.sleep(pause / 1000)
      child:cancel()
      child:join()
      settles "t"
    end
    for _ = 1, 10 do -- and while the archive gets its name
      local over
      local child = task.spawn(function()
        get { replace = true }
        over = true
      end)
      while not over and not names():find "%.tar$" do timer.sleep(0) end
      child:cancel()
      child:join()
      settles "t"
    end
    assert(get { replace = true })
    assert.equal(tree(there), tree(here .. "/t"))
    local left
    for _ = 1, 250 do -- the host's part ends soon, too
      left = run "pgrep -f [n]o.such.directory.on.the.host.*$PWD"
      if left == "" then break end
      timer.sleep(0.02)
    end
    assert.equal("", left)
  end)
end)
