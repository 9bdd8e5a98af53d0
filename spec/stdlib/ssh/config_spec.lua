---Every case is also given to OpenSSH itself: `ssh -G` must say the same.
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local proc = require "rt.proc"
local config = require "kiln.ssh.config"

describe("kiln.ssh.config", function()
  local dir

  lazy_setup(function() dir = assert(fs.temp_dir()) end)
  lazy_teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  ---What OpenSSH makes of the file, by keyword.
  local function openssh(host)
    local done = assert(proc.run { argv = { "ssh", "-G", "-F", dir .. "/config", host } })
    assert.equal(0, done.code, done.err)
    local out = { identityfile = {}, certificatefile = {} }
    for keyword, value in done.out:gmatch("(%S+) ([^\n]*)\n") do
      if type(out[keyword]) == "table" then
        table.insert(out[keyword], value)
      else
        out[keyword] = value
      end
    end
    return out
  end

  local function expanded(list)
    local home, out = proc.getenv "HOME", {}
    for _, path in ipairs(list) do
      path = path:gsub("^~/", home .. "/")
      if not path:find("_sk$") and not path:find("id_xmss") and not path:find("id_dsa")
        and path ~= "none" then
        out[#out + 1] = path
      end
    end
    return out
  end

  local function jumps_as_text(jumps)
    local out = {}
    for _, jump in ipairs(jumps) do
      out[#out + 1] = (jump.user and jump.user .. "@" or "") .. jump.host
        .. (jump.port and ":" .. jump.port or "")
    end
    return #out > 0 and table.concat(out, ",") or nil
  end

  ---Resolves by both and compares.
  local function both(host, text)
    sshd.write(dir .. "/config", text:gsub("DIR", dir) .. "")
    local ours, theirs = config.resolve(host, { file = dir .. "/config" }), openssh(host)
    assert.equal(theirs.hostname, ours.host)
    assert.equal(theirs.user, ours.user)
    assert.equal(tonumber(theirs.port), ours.port)
    assert.same(expanded(theirs.identityfile), ours.identity_files)
    assert.same(expanded(theirs.certificatefile), ours.certificate_files)
    assert.equal(theirs.identitiesonly == "yes", ours.identities_only)
    assert.equal(theirs.hostkeyalias, ours.host_key_alias)
    local jumps = theirs.proxyjump and theirs.proxyjump:gsub("[%[%]]", "") -- around addresses
    assert.equal(jumps ~= "none" and jumps or nil, jumps_as_text(ours.jumps))
    local known = {}
    for path in (theirs.userknownhostsfile .. " " .. theirs.globalknownhostsfile):gmatch("%S+") do
      known[#known + 1] = path
    end
    assert.same(expanded(known), ours.known_hosts)
    return ours
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

  it("honours Match all, skips every other Match and says so", function()
    local ours = both("host", "Host other\n  Port 1\nMatch all\n  Port 2\n")
    assert.equal(2, ours.port)
    assert.same({}, ours.notes)
    sshd.write(dir .. "/config", "Match host host exec \"true\"\n  Port 3\nHost *\n  Port 4\n")
    ours = config.resolve("host", { file = dir .. "/config" })
    assert.equal(4, ours.port)
    assert.matches("config:1: 'Match host host exec true' was skipped", ours.notes[1], 1, true)
  end)

  it("ignores keywords that it does not need", function()
    both("host", "ForwardAgent yes\nServerAliveInterval 5\nSendEnv LANG LC_*\nCompression yes")
    sshd.write(dir .. "/config", "FutureKeyword x y z\nPort 5\n")
    assert.equal(5, config.resolve("host", { file = dir .. "/config" }).port)
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
    } do
      sshd.write(dir .. "/config", text)
      local ok, err = pcall(config.resolve, "x", { file = dir .. "/config" })
      assert.is_false(ok, text)
      assert.equal("invalid", err.kind)
      assert.matches(said, err.message, 1, true)
    end
    sshd.write(dir .. "/config", "ProxyCommand nc %h %p")
    local ok, err = pcall(config.resolve, "x", { file = dir .. "/config" })
    assert.is_false(ok)
    assert.equal("unsupported", err.kind)
    assert.matches("use ProxyJump", err.message, 1, true)
    sshd.write(dir .. "/config", "ProxyJump bastion\nProxyCommand nc %h %p")
    assert.equal("bastion", config.resolve("x", { file = dir .. "/config" }).jumps[1].host)
  end)

  it("is empty where there is no file", function()
    local ours = config.resolve("x", { file = dir .. "/absent" })
    assert.equal("x", ours.host)
    assert.equal(22, ours.port)
  end)
end)
