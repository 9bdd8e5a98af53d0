---Users with other login shells than bash, on a real sshd: kiln's commands and transfers must not
---depend on what those shells make of quotes.
local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local guard = require "kiln.guard"
local ssh = require "kiln.ssh"

---What each shell reads when it starts for a command, and a line that sets a variable there.
local shells = {
  { name = "bash", start = ".bashrc", set = 'export FROM_SHELL="yes"' },
  { name = "dash" },
  { name = "zsh", start = ".zshenv", set = 'export FROM_SHELL="yes"' },
  { name = "fish", start = ".config/fish/config.fish", set = "set -gx FROM_SHELL yes" },
  { name = "tcsh", start = ".tcshrc", set = "setenv FROM_SHELL yes" },
}

local hostile = "a!b !! it's \"$HOME\" `id` \\ \\n \\0101 %s %% * ~ {a,b} (x) ^ # ; & | < > ü€ \t$"

describe("a login shell", function()
  local server, place

  ---A passwd file in a mount namespace of the sshd's own gives it a user for each shell, who may
  ---write where the guard keeps its state.
  lazy_setup(function()
    place = assert(fs.temp_dir())
    os.execute("chmod 0755 " .. place)
    local lines = { sshd.read "/etc/passwd" }
    for index, shell in ipairs(shells) do
      local home = place .. "/" .. shell.name
      local path = sshd.output("command -v " .. shell.name)
      assert(path ~= "", shell.name .. " is missing; apt-get install " .. shell.name)
      lines[#lines + 1] = ("user-%s:x:%d:%d::%s:%s\n"):format(shell.name, 6100 + index,
        6100 + index, home, path)
      assert(fs.mkdir(home))
      if shell.start then
        assert(fs.mkdir((home .. "/" .. shell.start):match("^(.*)/"), { parents = true }))
        sshd.write(home .. "/" .. shell.start, shell.set .. "\necho started >> ~/starts\n")
      end
      os.execute(("chown -R %d:%d %s"):format(6100 + index, 6100 + index, home))
    end
    sshd.write(place .. "/passwd", table.concat(lines))
    server = sshd.start {
      config = "SetEnv KILN_SPEC=1", -- HOME is the user's own
      within = ("unshare -m sh -c 'mount --bind %s/passwd /etc/passwd && mkdir -p /var/lib/kiln && "
        .. "mount -t tmpfs tmpfs /var/lib/kiln && mkdir -m 1777 /var/lib/kiln/guard && "
        .. "exec \"$@\"' sh"):format(place),
    }
    os.execute(("chmod 0711 %s; chmod 0644 %s/authorized_keys"):format(server.dir, server.dir))
  end)

  lazy_teardown(function()
    if server then server:stop() end
    assert(fs.remove(place, { recursive = true }))
  end)

  for _, shell in ipairs(shells) do
    describe("that is " .. shell.name, function()
      local session, home

      lazy_setup(function()
        home = place .. "/" .. shell.name
        session = ssh.connect {
          host = server.host, port = server.port, user = "user-" .. shell.name, key = server.key,
          host_key = server.host_key, within = 10,
        }
      end)
      lazy_teardown(function() if session then session:close() end end)

      it("runs a command with every kind of character in it, as sh does", function()
        local text = ("printf '%%s' '%s'\ncat <<'E'\n%s\nE\n"):format(
          hostile:gsub("'", "'\\''"), hostile)
        assert.equal(hostile .. hostile .. "\n", session:run(text).out)
        assert.equal("b\n", session:run("if false; then echo a; else echo b; fi").out)
        assert.equal("b\n", session:run("echo b", { kill = false }).out)
      end)

      it("says how a command ends", function()
        assert.equal(7, session:run("exit 7", { check = false }).code)
        assert.equal("KILL", session:run("kill -KILL $$", { check = false, kill = false }).signal)
        assert.equal(127, session:run("no-such-program", { check = false }).code)
        local ok, err = pcall(session.run, session, "sleep 9", { timeout = 0.2 })
        assert.is_false(ok)
        assert.equal("timeout", err.kind)
      end)

      it("gives a command variables, secrets, a folder and standard input", function()
        local done = session:run('printf "%s|" "$A" "$B" "$PWD"; cat', {
          env = { A = hostile, B = crypto.secret(hostile .. "\n!") }, cwd = "/tmp", stdin = "in!\n",
        })
        assert.equal(("%s|%s\n!|/tmp|in!\n"):format(hostile, hostile), done.out)
      end)

      it("runs as root's shell would: by pty, and a line at a time", function()
        assert.equal("yes\r\n", session:run("test -t 0 && echo yes", { pty = true }).out)
        local lines = {}
        session:run("echo a; echo b", { on_line = function(line) lines[#lines + 1] = line end })
        assert.same({ "a", "b" }, lines)
      end)

      it("starts once for a command, and what it sets is there", function()
        if not shell.start then return end
        session:run("rm -f ~/starts")
        assert.equal("yes\n", session:run('echo "$FROM_SHELL"').out)
        assert.equal("started\n", fs.read(home .. "/starts") or "none")
      end)

      it("takes commands of any length", function()
        for _, size in ipairs { 10000, 31900, 32100, 100000, 300000 } do
          local line = ("x='%s'\n"):format(("ab!\\\""):rep(100))
          local text = line:rep(size // #line) .. "echo ${#x}; cat; exit 3"
          local done = session:run(text, { kill = false, stdin = "in", check = false })
          assert.same({ "500\nin", "", 3 }, { done.out, done.err, done.code }, tostring(size))
        end
      end)

      it("runs a guarded command once", function()
        local text = guard.command("shell-" .. shell.name, "cat; echo run >> ~/guarded; exit 4", 3)
        for _ = 1, 2 do
          local done = session:run(text, { check = false, stdin = "hi!" })
          assert.same({ 4, "hi!", "" }, { done.code, done.out, done.err })
        end
        assert.equal("run\n", fs.read(home .. "/guarded"))
      end)

      it("uploads and downloads files and folders, whatever their names", function()
        local here = assert(fs.temp_dir())
        local name = "it's! a\\b $x"
        assert(fs.mkdir(here .. "/tree"))
        sshd.write(here .. "/tree/" .. name, "content")
        session:upload(here .. "/tree/" .. name, home .. "/" .. name)
        session:upload(here .. "/tree", home .. "/tree!")
        assert.equal("content", fs.read(home .. "/" .. name))
        assert.equal("content", fs.read(home .. "/tree!/" .. name))
        session:download(home .. "/" .. name, here .. "/back")
        session:download(home .. "/tree!", here .. "/tree-back")
        assert.equal("content", fs.read(here .. "/back"))
        assert.equal("content", fs.read(here .. "/tree-back/" .. name))
        session:write(home .. "/big", ("x"):rep(1 << 20))
        assert.equal(1 << 20, fs.stat(home .. "/big").size)
        assert(fs.remove(here, { recursive = true }))
      end)
    end)
  end
end)
