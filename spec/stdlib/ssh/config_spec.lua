---Every case is also given to OpenSSH itself: `ssh -G` must say the same.
local ssh_g = require "spec.support.ssh_g"
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local proc = require "rt.proc"
local config = require "kiln.ssh.config"

describe("kiln.ssh.config", function()
  local dir

  lazy_setup(function() dir = assert(fs.temp_dir()) end)
  lazy_teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  ---Resolves by both and compares.
  local function both(host, text)
    sshd.write(dir .. "/config", text:gsub("DIR", dir) .. "")
    local ours = config.resolve(host, { file = dir .. "/config" })
    local said = assert(ssh_g.ask(dir .. "/config", host))
    assert.same({}, ssh_g.differences(said, ours, host))
    return ours
  end

  local function refuses(kind, host, text)
    sshd.write(dir .. "/config", text)
    local ok, err = pcall(config.resolve, host, { file = dir .. "/config" })
    assert.is_false(ok, text)
    assert.equal(kind, err.kind, err.message)
    return err.message
  end

  it("has OpenSSH's defaults for an empty file and a host with capitals", function()
    both("web-1", "")
    assert.equal("web-1", both("WEB-1", "").host)
    assert.equal("192.0.2.7", both("192.0.2.7", "# nothing\n\n   \n").host)
  end)

  it("lets the first value win, across blocks", function()
    local ours = both("web-1", [[
User early
Host web-*
  User late
  Port 2222
  HostName %h.example.com
Host *
  Port 22
  HostName other
]])
    assert.equal("early", ours.user)
    assert.equal("web-1.example.com", ours.host)
  end)

  it("matches wildcards, several patterns and negations as OpenSSH does", function()
    local text = [[
Host web-? db* !db-old
  User one
Host !web-1 *
  User two
Host *.example.com ?x?
  Port 2200
Host "quoted name" a*b*c
  Port 2300
Host WEB-9
  Port 2400
]]
    for _, host in ipairs {
      "web-1", "web-12", "web-", "db", "db-old", "db-new", "a.example.com", "example.com", "axb",
      "abc", "aXbXc", "aabbcc", "ab", "web-9", "WEB-9", "x", "*", "a?b",
    } do
      both(host, text)
    end
  end)

  it("reads every way to write a line", function()
    for _, text in ipairs {
      "user=bob\nport =2022", "User = bob\nPORT= 2022", '\tUser\t"bob"', "User bob # why",
      "User 'bob smith'", [[User bob\ smith]], [[User "bob \"x\" smith"]], [[User "bob'x"]],
      "User bob#x", [[User a\b]], '"User" bob', "HostName=%h", "HostName %h%%x", "User =bob",
      "  HostName   192.0.2.1  \t", "User bob\r\nPort 2022\r\n", "IdentitiesOnly yes",
      "IdentitiesOnly no\nIdentitiesOnly yes", "IdentitiesOnly true",
    } do
      both("host", text)
    end
  end)

  it("collects identity files, without repeats", function()
    local ours = both("host", [[
IdentityFile /keys/one
Host ho*
  IdentityFile ~/.ssh/deploy
  IdentityFile /keys/one
  IdentityFile "/with space/key"
  CertificateFile ~/.ssh/deploy-cert.pub
]])
    assert.equal(3, #ours.identity_files)
    both("host", "IdentityFile none")
  end)

  it("reads known_hosts files, aliases and jumps", function()
    both("host", "UserKnownHostsFile /a /b\nGlobalKnownHostsFile /c\nHostKeyAlias Other")
    both("host", "UserKnownHostsFile none")
    both("host", "ProxyJump bastion")
    both("host", "ProxyJump me@bastion:2222,10.0.0.1")
    both("host", "ProxyJump ssh://me@bastion:2222")
    both("host", "ProxyJump [2001:db8::1]:22022")
    both("host", "ProxyJump none\nProxyJump bastion")
    both("host", "Host other\nProxyJump bastion\nHost *\nProxyJump second")
    local ours = config.resolve("host", { file = dir .. "/config" })
    assert.same({ { host = "second" } }, ours.jumps)
  end)

  it("follows Include with patterns, in place, inside and outside of blocks", function()
    assert(fs.mkdir(dir .. "/more"))
    sshd.write(dir .. "/more/10", "User included\nHost web-*\n  Port 1010\n")
    sshd.write(dir .. "/more/20", "Port 2020\nIdentityFile /keys/20\n")
    both("web-1", "Include DIR/more/*\nUser mine")
    both("db", "Include DIR/more/*\nUser mine")
    both("db", "Host web-*\n  Include DIR/more/*\nHost *\n  User mine")
    both("web-1", "Host web-*\n  Include DIR/more/10\n  Port 7\nHost *\n  User mine")
    both("web-1", "Host db\n  Include DIR/more/10 DIR/more/20\n  Port 8\n")
    both("web-1", "Include DIR/absent/*\nPort 9")
    sshd.write(dir .. "/loop", "Include " .. dir .. "/loop\n")
    local ok, err = pcall(config.resolve, "x", { file = dir .. "/loop" })
    assert.is_false(ok)
    assert.equal("invalid", err.kind)
  end)

  it("honours Match, but runs no program for it, and says so where it matters", function()
    local ours = both("host", "Host other\n  Port 1\nMatch all\n  Port 2\n")
    assert.equal(2, ours.port)
    assert.same({}, ours.notes)
    local text = "Match host host exec \"true\"\n  Port 3\nHost *\n  Port 4\n"
    assert.matches("config:1: Match exec runs a program", refuses("unsupported", "host", text), 1,
      true)
    assert.equal(4, both("elsewhere", text).port)
    assert.equal(5, both("host", "Match !host host exec true\n  Port 3\nHost *\n  Port 5\n").port)
  end)

  it("notes once what has an effect on ssh and none on kiln, and nothing else", function()
    local quiet = both("host", "ForwardAgent no\nServerAliveInterval 5\nSendEnv LANG LC_*\n"
      .. "Compression yes\nStrictHostKeyChecking ask\nControlMaster auto\nVisualHostKey yes\n")
    assert.same({}, quiet.notes)
    local ours = both("host", "BindAddress 127.0.0.2\nHost other\n  ForwardAgent yes\nHost *\n"
      .. "  StrictHostKeyChecking no\n  LocalForward 1 a:2\n  LocalForward 3 b:4\nMatch final\n")
    local path = dir .. "/config"
    assert.same({
      path .. ":1: kiln does not honour 'bindaddress 127.0.0.2'",
      path .. ":5: kiln does not honour 'stricthostkeychecking no'",
      path .. ":6: kiln does not honour 'localforward 1 a:2'",
    }, ours.notes)
  end)

  it("refuses an unknown keyword, as ssh does, unless IgnoreUnknown names it", function()
    assert.matches("config:1: 'futurekeyword' is no keyword of ssh_config", refuses("invalid", "x",
      "FutureKeyword x y z\nPort 5\n"), 1, true)
    assert.equal(5, both("x", "IgnoreUnknown Fu*,Other\nFutureKeyword x y z\nPort 5\n").port)
  end)

  it("refuses a user's own file that others may write", function()
    local home = dir .. "/home"
    assert(fs.mkdir(home .. "/.ssh", { parents = true }))
    assert(fs.write(home .. "/.ssh/config", "Port 5\n", { mode = "0666" }))
    local ok, err = pcall(config.resolve, "x", { home = home })
    assert.is_false(ok)
    assert.matches("others may write this file", err.message, 1, true)
    assert(fs.write(home .. "/.ssh/config", "Port 5\n", { mode = "0600" }))
    assert.equal(5, config.resolve("x", { home = home }).port)
  end)

  it("expands tokens and variables of paths", function()
    sshd.write(dir .. "/config", "User ann\nPort 7\nIdentityFile ${HOME}/%h-%n-%r-%p-%%\n"
      .. "HostName %h.example.com\n")
    local ours = config.resolve("Web", { file = dir .. "/config", home = "/h" })
    assert.equal(proc.getenv "HOME" .. "/web.example.com-Web-ann-7-%", ours.identity_files[1])
    assert.equal("/h/.ssh/known_hosts", ours.known_hosts[1])
    for _, bad in ipairs { "IdentityFile %Q", "IdentityFile ${KILN_NO_SUCH_VARIABLE}" } do
      sshd.write(dir .. "/config", bad)
      local ok, err = pcall(config.resolve, "x", { file = dir .. "/config" })
      assert.is_false(ok)
      assert.equal("invalid", err.kind)
    end
  end)

  it("finds the agent as OpenSSH does", function()
    local function agent(text)
      sshd.write(dir .. "/config", text)
      return config.resolve("x", { file = dir .. "/config", home = "/h" }).identity_agent
    end
    assert.equal(proc.getenv "SSH_AUTH_SOCK", agent "")
    assert.is_nil(agent "IdentityAgent none")
    assert.equal("/h/agent", agent "IdentityAgent ~/agent")
    assert.equal(proc.getenv "HOME", agent "IdentityAgent $HOME")
  end)

  it("lets the caller's user and port win", function()
    sshd.write(dir .. "/config", "User file\nPort 5\n")
    local ours = config.resolve("x", { file = dir .. "/config", user = "me", port = 6 })
    assert.equal("me", ours.user)
    assert.equal(6, ours.port)
  end)

  it("names file and line of what it cannot read", function()
    for text, said in pairs {
      ["\nPort x"] = "config:2: 'x' is no port", ["Port 70000"] = "is no port",
      ['User "open'] = "config:1: a quote is not closed", ["User"] = "'user' needs a value",
      ["IdentitiesOnly maybe"] = "neither yes nor no", ["ProxyJump a b"] = "is not of the form",
      ["Match host"] = "needs an argument", ["Match planet x"] = "is no condition of Match",
    } do
      assert.matches(said, refuses("invalid", "x", text), 1, true)
    end
    assert.equal("bastion", both("x", "ProxyJump bastion\nProxyCommand nc %h %p").jumps[1].host)
  end)

  it("is empty where there is no file", function()
    local ours = config.resolve("x", { file = dir .. "/absent" })
    assert.equal("x", ours.host)
    assert.equal(22, ours.port)
  end)
end)
