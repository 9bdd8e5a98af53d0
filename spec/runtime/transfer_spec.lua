local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local exec = require "rt.exec"
local fs = require "rt.fs"
local ssh = require "rt.ssh"
local task = require "rt.task"
local timer = require "rt.timer"
local transfer = require "rt.transfer"

describe("rt.transfer", function()
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

  local function fails(kind, value, err)
    assert.is_nil(value)
    assert.equal(kind, err.kind)
    return err
  end

  ---Waits until the host has removed what a transfer left.
  local function settles(path, expected)
    for _ = 1, 100 do
      if names(path) == expected then return end
      timer.sleep(0.02)
    end
    assert.equal(expected, names(path))
  end

  describe("upload", function()
    it("writes bytes with a mode, making the folders above", function()
      local done = assert(transfer.upload(session, {
        content = "hello\n", target = there .. "/a b/c'd/file", mode = "0750",
      }))
      assert.equal(6, done.bytes)
      assert.equal(crypto.sha256("hello\n"), done.sha256)
      assert.equal("hello\n", fs.read(there .. "/a b/c'd/file"))
      local stat = fs.stat(there .. "/a b/c'd/file")
      assert.equal("750", sshd.output("stat -c %a " .. sshd.quote(there .. "/a b/c'd/file")))
      assert.equal("file", stat.type)
      assert.equal("file", names(there .. "/a b/c'd"))
    end)

    it("writes nothing, a secret, and over a file that exists", function()
      assert(transfer.upload(session, { content = "", target = there .. "/f" }))
      assert.equal("", fs.read(there .. "/f"))
      assert(transfer.upload(session, {
        content = crypto.secret "hush", target = there .. "/f", mode = "600",
      }))
      assert.equal("hush", fs.read(there .. "/f"))
      assert.equal("f", names(there))
    end)

    it("sends a file of several megabytes", function()
      local bytes = crypto.random(1024 * 1024):rep(5) .. "end"
      assert(fs.write(here .. "/big", bytes))
      local done = assert(transfer.upload(session, {
        source = here .. "/big", target = there .. "/big",
      }))
      assert.equal(#bytes, done.bytes)
      assert.equal(crypto.sha256(bytes), done.sha256)
      assert.is_true(fs.read(there .. "/big") == bytes)
    end)

    it("sets the owner", function()
      if server.user ~= "root" then pending "needs root to give files away" return end
      assert(transfer.upload(session, {
        content = "x", target = there .. "/f", owner = "nobody:nogroup",
      }))
      assert.equal("nobody nogroup", sshd.output("stat -c '%U %G' " .. there .. "/f"))
    end)

    it("says what went wrong and leaves nothing", function()
      fails("not_found", transfer.upload(session, {
        source = here .. "/nope", target = there .. "/f",
      }))
      fails("invalid", transfer.upload(session, { source = here, target = there .. "/f" }))
      assert(fs.mkdir(there .. "/dir"))
      local err = fails("exists", transfer.upload(session, {
        content = "x", target = there .. "/dir",
      }))
      assert.matches("upload to " .. there .. "/dir", err.message, 1, true)
      fails("invalid", transfer.upload(session, {
        content = "x", target = there .. "/f", owner = "no-such-user",
      }))
      assert.equal("dir", names(there))
    end)

    it("raises for options that make no sense", function()
      local function raises(options, text)
        assert.error_matches(function() transfer.upload(session, options) end, text)
      end
      raises({ target = "/x" }, "either 'source' or 'content'")
      raises({ target = "/x", content = "a", source = "b" }, "either")
      raises({ content = "a" }, "target")
      raises({ content = "a", target = "/x/" }, "end in '/'")
      raises({ content = "a", target = "/x", mode = "rw" }, "octal")
      raises({ content = "a", target = "/x", chmod = "rw" }, "unknown option")
    end)

    it("notices bytes that changed on their way to the disk", function()
      local tools = server.dir .. "/tools"
      assert(fs.mkdir(tools, { parents = true }))
      assert(fs.write(tools .. "/dd", "#!/bin/sh\n/usr/bin/dd \"$@\" | tr a b\n", {
        mode = "0755",
      }))
      local bad <close> = sshd.start {
        config = "SetEnv PATH=" .. tools .. ":/usr/bin:/bin",
      }
      assert(bad)
      local liar <close> = assert(ssh.connect(bad:options()))
      if not exec.run(liar, "command -v dd").out:find(tools, 1, true) then
        pending "this sshd does not take PATH from SetEnv"
        return
      end
      local err = fails("io", transfer.upload(liar, { content = "aaaa", target = there .. "/f" }))
      assert.matches("another sha256", err.message, 1, true)
      assert(fs.write(here .. "/big", ("a"):rep(17000000))) -- whose sum is taken as it comes
      fails("io", transfer.upload(liar, { source = here .. "/big", target = there .. "/f" }))
      assert.equal("", names(there))
    end)

    it("removes the unfinished copy when cancelled at any moment", function()
      local bytes = crypto.random(1024 * 1024):rep(8)
      for step = 0, 12 do
        local child = task.spawn(function()
          transfer.upload(session, { content = bytes, target = there .. "/f" })
        end)
        timer.sleep(step * 0.003)
        child:cancel()
        child:join()
      end
      for _ = 1, 100 do
        if not names(there):find("kiln", 1, true) then break end
        timer.sleep(0.02)
      end
      assert.not_matches("kiln", names(there), 1, true)
    end)

    it("ends with unreachable when the connection is lost, and the host cleans up", function()
      local lost <close> = sshd.start()
      local own <close> = assert(ssh.connect(lost:options()))
      local child = task.spawn(function()
        return transfer.upload(own, {
          content = ("z"):rep(64 * 1024 * 1024), target = there .. "/f",
        })
      end)
      while names(there) == "" do timer.sleep(0.005) end
      lost:signal("KILL")
      local _, done, err = child:join()
      fails("unreachable", done, err)
      settles(there, "")
    end)

    it("stops at its deadline on a frozen host", function()
      local frozen <close> = sshd.start()
      local own <close> = assert(ssh.connect(frozen:options()))
      frozen:signal("STOP")
      -- A later alarm on the same loop: what delays one delays the other.
      local rung = false
      local alarm = task.spawn(function()
        timer.sleep(2)
        rung = true
      end)
      fails("timeout", transfer.upload(own, {
        content = ("z"):rep(16 * 1024 * 1024), target = there .. "/f", timeout = 0.4,
      }))
      assert.is_false(rung) -- its own deadline, not the connection's
      alarm:cancel()
      alarm:join()
    end)

    it("goes on with what an interrupted upload had brought, and takes nothing wrong", function()
      local bytes = crypto.random(1024 * 1024):rep(12)
      assert(fs.write(here .. "/big", bytes))
      local options = { source = here .. "/big", target = there .. "/f", resume = true,
        mode = "0400" }
      local function part()
        local name = names(there):match("f%.kiln%-part%-%x+")
        return name and there .. "/" .. name
      end
      local function interrupt()
        local own <close> = assert(ssh.connect(server:options()))
        local child = task.spawn(function() return transfer.upload(own, options) end)
        while not part() or fs.stat(part()).size < 3000000 do timer.sleep(0.002) end
        own:close()
        assert.equal("cancelled", select(3, child:join()).kind)
        local size
        repeat -- the host writes what it has
          size = fs.stat(part()).size
          timer.sleep(0.1)
        until size == fs.stat(part()).size
        return size
      end
      local there_already = interrupt()
      assert.is_true(there_already >= 3000000 and there_already < #bytes)
      local done = assert(transfer.upload(session, options))
      assert.same({ #bytes, there_already, crypto.sha256(bytes) },
        { done.bytes, done.resumed, done.sha256 })
      assert.is_true(fs.read(there .. "/f") == bytes)
      assert.equal("f", names(there))
      assert.equal("0400", fs.stat(there .. "/f").mode)
      interrupt() -- and somebody changes what lies there
      local file = assert(io.open(part(), "r+b"))
      file:write("changed")
      file:close()
      fails("io", transfer.upload(session, options))
      assert.equal("f", names(there))
      done = assert(transfer.upload(session, options))
      assert.equal(0, done.resumed)
      assert.has_error(function()
        transfer.upload(session, { content = "x", target = there .. "/g", resume = true })
      end)
    end)

    it("runs several at once on one connection", function()
      local tasks = {}
      for i = 1, 12 do
        tasks[i] = task.spawn(function()
          return transfer.upload(session, {
            content = ("%d"):format(i):rep(300000), target = there .. "/" .. i,
          })
        end)
      end
      for i = 1, 12 do
        local _, done, err = tasks[i]:join()
        assert.is_nil(err)
        assert.equal(crypto.sha256(("%d"):format(i):rep(300000)), done.sha256)
        assert.is_true(fs.read(there .. "/" .. i) == ("%d"):format(i):rep(300000))
      end
    end)
  end)

  describe("upload_tree", function()
    local long = ("deep/"):rep(30) .. ("n"):rep(150)

    local function plant()
      assert(fs.mkdir(here .. "/bin/empty", { parents = true }))
      assert(fs.write(here .. "/bin/app", crypto.random(70000), { mode = "0755" }))
      assert(fs.write(here .. "/conf.env", "A=1\n", { mode = "0640" }))
      assert(fs.write(here .. "/zero", ""))
      assert(fs.mkdir((here .. "/" .. long):match("(.*)/"), { parents = true }))
      assert(fs.write(here .. "/" .. long, "long\n"))
      assert(fs.write(here .. "/odd \\ name\nhere 'ü", "odd\n"))
      assert(fs.symlink("conf.env", here .. "/link"))
      assert(fs.symlink("/" .. ("far/"):rep(40), here .. "/dangling"))
    end

    ---Describes a tree: names, types, modes, contents, link targets.
    local function describe_tree(path)
      return sshd.output(("cd %s && find . -printf '%%P|%%y|%%m|%%l\\n' | sort; cd %s && "
        .. "find . -type f -print0 | sort -z | xargs -0 sha256sum"):format(
        sshd.quote(path), sshd.quote(path)))
    end

    it("makes the same tree: modes, links, long and odd names, empty folders", function()
      plant()
      local done = assert(transfer.upload_tree(session, {
        source = here, target = there .. "/new/tree",
      }))
      assert.equal(70000 + 4 + 5 + 4, done.bytes)
      assert.equal(64, #done.sha256)
      assert.equal(describe_tree(here), describe_tree(there .. "/new/tree"))
      assert.equal("tree", names(there .. "/new"))
      local again = assert(transfer.upload_tree(session, { source = here, target = there .. "/2" }))
      assert.equal(done.sha256, again.sha256)
    end)

    it("leaves out what is excluded, without looking into it", function()
      for _, folder in ipairs { ".git", "build", "src/build", "docs" } do
        assert(fs.mkdir(here .. "/" .. folder, { parents = true }))
      end
      for _, file in ipairs { ".git/config", "build/app", "src/build/x.c", "src/a.c", "src/a.o",
        "top.o", "docs/a.tmp", "docs/deep.tmp.txt", "keep[1]" } do
        assert(fs.write(here .. "/" .. file, file))
      end
      os.execute("mkfifo " .. here .. "/.git/pipe")
      local function upload(exclude)
        assert(transfer.upload_tree(session, { source = here, target = there .. "/t",
          replace = true, exclude = exclude }))
        return (sshd.output(("cd %s/t && find . -type f -printf '%%P\\n' | sort | xargs")
          :format(there)))
      end
      assert.equal("docs/deep.tmp.txt keep[1] src/a.c src/build/x.c",
        upload { ".git", "/build/", "*.o", "docs/*.tmp" })
      assert.equal("build/app docs/a.tmp docs/deep.tmp.txt src/a.o top.o",
        upload { ".git/", "*.c", "keep\\[1]", "top.o/" })
      fails("unsupported", transfer.upload_tree(session, { source = here, target = there .. "/u" }))
      assert.has_error(function()
        transfer.upload_tree(session, { source = here, target = there .. "/u", exclude = { {} } })
      end)
    end)

    it("makes an empty folder", function()
      assert(transfer.upload_tree(session, { source = here, target = there .. "/void" }))
      assert.equal("", names(there .. "/void"))
    end)

    it("adds to a folder that exists, deleting nothing, following its links to folders", function()
      plant()
      assert(fs.mkdir(there .. "/t/real", { parents = true }))
      os.execute("chmod 711 " .. there .. "/t")
      assert(fs.write(there .. "/t/old", "old"))
      assert(fs.write(there .. "/t/zero", "was here"))
      assert(fs.symlink("real", there .. "/t/bin"))
      assert(transfer.upload_tree(session, { source = here, target = there .. "/t" }))
      assert.equal("old", fs.read(there .. "/t/old"))
      assert.equal("", fs.read(there .. "/t/zero"))
      assert.equal("711", sshd.output("stat -c %a " .. there .. "/t"))
      assert.equal("app empty", names(there .. "/t/real"))
      assert.equal("t", names(there))
    end)

    it("replaces the old tree when asked, but no folder at the top", function()
      plant()
      assert(fs.mkdir(there .. "/t"))
      assert(fs.write(there .. "/t/old", "old"))
      assert(transfer.upload_tree(session, {
        source = here, target = there .. "/t", replace = true,
      }))
      assert.equal(describe_tree(here), describe_tree(there .. "/t"))
      assert.equal("t", names(there))
      assert.error_matches(function()
        transfer.upload_tree(session, { source = here, target = "/etc", replace = true })
      end, "top of the file system")
    end)

    it("refuses what is no folder, and a socket or a pipe in it", function()
      fails("not_found", transfer.upload_tree(session, {
        source = here .. "/nope", target = there .. "/t",
      }))
      os.execute("mkfifo " .. here .. "/pipe")
      local err = fails("unsupported", transfer.upload_tree(session, {
        source = here, target = there .. "/t",
      }))
      assert.matches("pipe", err.message)
      assert.equal("", names(there))
    end)

    it("says what went wrong on the host and leaves nothing", function()
      plant()
      assert(fs.write(there .. "/file", "x"))
      fails("exists", transfer.upload_tree(session, { source = here, target = there .. "/file" }))
      fails("invalid", transfer.upload_tree(session, {
        source = here, target = there .. "/t", owner = "no-such-user",
      }))
      assert.equal("file", names(there))
    end)
  end)
end)
