local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local exec = require "rt.exec"
local fs = require "rt.fs"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"
local transfer = require "rt.transfer"

describe("a tree that travels", function()
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

  local function names(path)
    return table.concat(assert(fs.list(path)), " ")
  end

  local function upload(opts)
    return transfer.upload_tree(session, { source = here, target = there .. "/t",
      timeout = opts and opts.timeout })
  end

  it("has a digest that changes with all that is sent but times", function()
    local function plant()
      fs.remove(here, { recursive = true })
      assert(fs.mkdir(here .. "/conf/empty", { parents = true }))
      assert(fs.write(here .. "/conf/a", "a"))
      assert(fs.write(here .. "/conf/b.o", "b"))
      assert(fs.symlink("a", here .. "/conf/link"))
    end
    local opts = { exclude = { "*.o" } }
    plant()
    local sent = assert(transfer.upload_tree(session, { source = here, target = there .. "/t",
      exclude = opts.exclude })).sha256
    assert.equal(sent, assert(transfer.digest(here, opts)))
    local function after(command)
      plant()
      sshd.output(("cd %s/conf && %s"):format(here, command))
      return assert(transfer.digest(here, opts))
    end
    for _, command in ipairs { "touch -d 2001-01-01 a", "echo c > b.o", "echo c > new.o" } do
      assert.equal(sent, after(command), command)
    end
    local seen = { [sent] = "nothing" }
    for _, command in ipairs { "echo c > a", "chmod 600 a", "chmod 700 empty", "mv a c",
      "rmdir empty", "ln -sf b.o link", "mv a empty/", "rm link; echo a > link", "touch new",
      "rm a; mkdir a" } do
      local digest = after(command)
      assert.is_nil(seen[digest], command)
      seen[digest] = command
    end
    assert.is_not.equal(sent, assert(transfer.digest(here)))
    local _, err = transfer.digest(here .. "/absent")
    assert.equal("not_found", err.kind)
  end)

  it("keeps the times of files, folders and links, to the second", function()
    assert(fs.mkdir(here .. "/folder"))
    assert(fs.write(here .. "/folder/old", "x"))
    assert(fs.symlink("folder", here .. "/link"))
    sshd.output(([[cd %s && touch -d 2001-02-03T04:05:06 folder/old &&
      touch -h -d 2002-02-03T04:05:06 link && touch -d 2003-02-03T04:05:06 folder]]):format(here))
    assert(upload())
    local times = "cd %s && stat -c '%%n %%Y' folder folder/old link"
    assert.equal(sshd.output(times:format(here)), sshd.output(times:format(there .. "/t")))
    assert.matches("^folder 104", sshd.output(times:format(there .. "/t")))
  end)

  it("keeps names of any bytes", function()
    for _, name in ipairs { "-rf", "--help", "*", "~", " ", "$HOME", "a\nb", "caf\xe9",
      "\xf0\x9f\x94\xa5", ("n"):rep(255), "a=b", "'\"`", "%s", "kiln-part-x" } do
      assert(fs.write(here .. "/" .. name, name))
    end
    assert(upload())
    assert.same(fs.list(here), fs.list(there .. "/t"))
    for _, name in ipairs(assert(fs.list(here))) do
      assert.equal(name, fs.read(there .. "/t/" .. name))
    end
  end)

  it("brings what is in a sparse file, and two files for two names of one", function()
    sshd.output(("cd %s && truncate -s 3M hole && printf end >> hole && printf x > a && ln a b")
      :format(here))
    local done = assert(upload())
    assert.equal(3 * 1024 * 1024 + 3 + 2, done.bytes)
    assert.is_true(fs.read(there .. "/t/hole") == ("\0"):rep(3 * 1024 * 1024) .. "end")
    assert.equal("1 1", sshd.output(("stat -c %%h %s/t/a %s/t/b | xargs"):format(there, there)))
  end)

  it("goes into a folder that is there: by a relative path, with read-only folders", function()
    assert(fs.mkdir(here .. "/closed/in", { parents = true }))
    assert(fs.write(here .. "/closed/in/-f", "new"))
    sshd.output(("chmod 555 %s/closed"):format(here))
    local home = assert(exec.run(session, "pwd")).out:gsub("%s+$", "")
    local relative = home:gsub("[^/]+", ".."):sub(2) .. there .. "/t"
    for _ = 1, 2 do
      assert(fs.mkdir(there .. "/t/closed/in", { parents = true }))
      assert(fs.write(there .. "/t/closed/in/-f", "old"))
      assert(fs.write(there .. "/t/closed/kept", "old"))
      assert(transfer.upload_tree(session, { source = here, target = relative }))
      assert.equal("new", fs.read(there .. "/t/closed/in/-f"))
      assert.equal("old", fs.read(there .. "/t/closed/kept"))
      assert.equal("t", names(there))
    end
    assert(fs.remove(there .. "/t/closed/in/-f"))
    assert(fs.mkdir(there .. "/t/closed/in/-f"))
    local done, err = upload()
    assert.is_nil(done)
    assert.equal("exists", err.kind)
    assert.equal("t", names(there))
    sshd.output(("chmod 755 %s/closed"):format(here))
  end)

  ---Uploads a tree of a long file and a short one, which changes while the long one travels.
  local function changing(change)
    assert(fs.write(here .. "/a-long", crypto.random(1024 * 1024):rep(48)))
    assert(fs.write(here .. "/b-short", "0123456789"))
    local child = task.spawn(upload)
    while names(there) == "" do timer.sleep(0.001) end -- the list is made
    change(here .. "/b-short")
    local _, done, err = child:join()
    return done, err
  end

  it("fails when a file shrinks or goes while the tree is read, and leaves nothing", function()
    local done, err = changing(function(path) assert(fs.write(path, "01")) end)
    assert.is_nil(done)
    assert.equal("io", err.kind)
    assert.matches("b-short changed while it was read", err.message, 1, true)
    done, err = changing(function(path) assert(fs.remove(path)) end)
    assert.is_nil(done)
    assert.equal("not_found", err.kind)
    assert.matches("b-short", err.message, 1, true)
    for _ = 1, 250 do -- the host removes it when the connection's end reaches it
      if names(there) == "" then break end
      timer.sleep(0.02)
    end
    assert.equal("", names(there))
  end)

  it("brings of a file that grows what it had when the tree was listed", function()
    assert(changing(function(path) sshd.output("printf more >> " .. path) end))
    assert.equal("0123456789", fs.read(there .. "/t/b-short"))
  end)

  it("shows how far it is, to one watcher", function()
    assert(fs.write(here .. "/a", crypto.random(1024 * 1024):rep(16)))
    assert(fs.write(here .. "/b", "b"))
    local watched <close> = transfer.progress()
    assert.same({ 0 }, { watched:read() })
    local child = task.spawn(function()
      return transfer.upload_tree(session, { source = here, target = there .. "/t",
        progress = watched })
    end)
    local before, between = 0, 0
    while not fs.stat(there .. "/t") do
      local bytes, total = watched:read()
      assert.is_true(bytes >= before and bytes <= 16 * 1024 * 1024 + 1)
      assert.is_true(total == nil or total == 16 * 1024 * 1024 + 1)
      if bytes > before then between = between + 1 end
      before = bytes
      timer.sleep(0.001)
    end
    local _, done = child:join()
    assert.is_true(between >= 2)
    assert.same({ done.bytes, done.bytes }, { watched:read() })
    child = task.spawn(function()
      return transfer.upload(session, { content = "xy", target = there .. "/f",
        progress = watched })
    end)
    while watched:read() > 2 do timer.sleep(0) end
    assert.error_matches(function()
      transfer.upload(session, { content = "x", target = there .. "/g", progress = watched })
    end, "watches another transfer")
    assert.is_truthy(select(2, child:join()))
    assert.same({ 2, 2 }, { watched:read() })
    watched:close()
    assert.same({ 0 }, { watched:read() })
  end)

  it("notices bytes that changed on their way to the disk, whatever the names are", function()
    local tools = server.dir .. "/tools"
    assert(fs.mkdir(tools))
    assert(fs.write(tools .. "/tar", [[#!/bin/sh
      /usr/bin/tar "$@"
      for last; do :; done
      find "$last" -name 'f*' -exec sed -i s/good/evil/ {} +
      ]], { mode = "0755" }))
    local bad <close> = sshd.start {
      config = ([[ForceCommand PATH=%s:$PATH; eval "$SSH_ORIGINAL_COMMAND"]]):format(tools),
    }
    local liar <close> = assert(ssh.connect(bad:options()))
    for _, name in ipairs { "f", "f with\nlines", "f\\", "g" } do
      assert(fs.write(here .. "/" .. name, "good"))
      assert(fs.write(here .. "/other", "as it was"))
      local done, err = transfer.upload_tree(liar, { source = here, target = there .. "/t" })
      if name == "g" then
        assert(done)
      else
        assert.is_nil(done)
        assert.equal("io", err.kind)
        assert.matches("another sha256", err.message, 1, true)
        assert.equal("", names(there))
      end
      assert(fs.remove(here .. "/" .. name))
    end
  end)

  it("says that the disk is full or read-only there, and leaves the old whole", function()
    if server.user ~= "root" then pending "needs root to mount a small file system" return end
    local small <close> = sshd.start {
      within = "unshare -m sh -c 'mount -t tmpfs -o size=2m tmpfs /mnt && exec \"$@\"' sh",
    }
    local own <close> = assert(ssh.connect(small:options()))
    local function on_host(command)
      local done = assert(exec.run(own, command))
      assert.equal(0, done.code, done.err)
      return (done.out:gsub("%s+$", ""))
    end
    on_host "mkdir /mnt/t && echo old > /mnt/t/a && echo old > /mnt/f"
    assert(fs.write(here .. "/a", "new"))
    assert(fs.write(here .. "/b", crypto.random(1024 * 1024):rep(3)))
    local function all_fail(kind, text)
      for _, replace in ipairs { true, false } do
        local done, err = transfer.upload_tree(own, { source = here, target = "/mnt/t",
          replace = replace })
        assert.is_nil(done)
        assert.equal(kind, err.kind)
        assert.matches("upload of a tree to /mnt/t: .*" .. text, err.message)
      end
      local done, err = transfer.upload(own, { source = here .. "/b", target = "/mnt/f" })
      assert.is_nil(done)
      assert.equal(kind, err.kind)
      assert.matches("upload to /mnt/f: .*" .. text, err.message)
      assert.equal("/mnt /mnt/f /mnt/t /mnt/t/a", on_host "find /mnt | sort | xargs")
      assert.equal("old old", on_host "cat /mnt/f /mnt/t/a | xargs")
    end
    all_fail("limit", "No space left")
    on_host "head -c 500000 /dev/zero > /mnt/t/a && mkdir /mnt/t/sub && echo old > /mnt/t/sub/c"
    assert(fs.write(here .. "/a", crypto.random(1000000) .. ("x"):rep(200000)))
    assert(fs.remove(here .. "/b"))
    assert(transfer.upload_tree(own, { source = here, target = "/mnt/t" })) -- room for one copy
    assert.equal(crypto.sha256(fs.read(here .. "/a")), on_host "sha256sum < /mnt/t/a | cut -c1-64")
    assert.equal("old", on_host "cat /mnt/t/sub/c")
    on_host "rm -r /mnt/t && mkdir /mnt/t && echo old > /mnt/t/a"
    assert(fs.write(here .. "/b", "b"))
    on_host "mount -o remount,ro /mnt"
    all_fail("denied", "Read%-only file system")
  end)
end)
