---Lookups are compared with those of OpenSSH: `ssh-keygen -F`.
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local proc = require "rt.proc"
local known_hosts = require "kiln.ssh.known_hosts"

describe("kiln.ssh.known_hosts", function()
  local dir, path, keys

  lazy_setup(function()
    dir = assert(fs.temp_dir())
    path = dir .. "/known_hosts"
    keys = {}
    for name, kind in pairs {
      one = "-t ed25519", two = "-t ed25519", ecdsa = "-t ecdsa -b 384", rsa = "-t rsa -b 2048",
      ca = "-t ed25519",
    } do
      sshd.output(("ssh-keygen -q -N '' -C '' %s -f %s/%s </dev/null"):format(kind, dir, name))
      keys[name] = sshd.read(dir .. "/" .. name .. ".pub"):match("^(%S+ %S+)")
    end
  end)
  lazy_teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  local function texts(list)
    local out = {}
    for _, one in ipairs(list) do out[#out + 1] = one.key end
    return out
  end

  ---What OpenSSH finds: the key of each line, by its marker.
  local function openssh(name)
    local done = assert(proc.run { argv = { "ssh-keygen", "-F", name, "-f", path } })
    local out = { keys = {}, revoked = {}, authorities = {} }
    for line in done.out:gmatch("[^\n]+") do
      local marker, rest = line:match("^(@%S+) (.*)$")
      local key = table.concat({ (rest or line):match("^%s*%S+%s+(%S+)%s+(%S+)") }, " ")
      local list = marker == "@revoked" and out.revoked
        or marker == "@cert-authority" and out.authorities or out.keys
      if line:sub(1, 1) ~= "#" then list[#list + 1] = key end
    end
    return out
  end

  local function same(host, port)
    local name = port == 22 and host or ("[%s]:%d"):format(host, port)
    local ours, theirs = known_hosts.find(host, port, { path }), openssh(name)
    if port ~= 22 and #theirs.keys + #theirs.authorities == 0 then
      local revoked = theirs.revoked
      theirs = openssh(host) -- ssh itself looks the name up again without its port
      table.move(revoked, 1, #revoked, #theirs.revoked + 1, theirs.revoked)
    end
    for _, part in ipairs { "keys", "revoked", "authorities" } do
      assert.same(theirs[part], texts(ours[part]), part .. " of " .. name)
    end
    return ours
  end

  it("finds plain names, lists, addresses and ports as ssh-keygen does", function()
    sshd.write(path, table.concat({
      "# comment", "", "web-1,192.0.2.1 " .. keys.one .. " a comment",
      "[web-1]:2222 " .. keys.two, "  web-1\t" .. keys.ecdsa, "WEB-2 " .. keys.rsa,
      "[2001:db8::1]:2222,2001:db8::1 " .. keys.one,
    }, "\n"))
    for _, host in ipairs { "web-1", "web-2", "192.0.2.1", "2001:db8::1", "web", "web-11" } do
      for _, port in ipairs { 22, 2222, 2223 } do same(host, port) end
    end
    assert.equal(2, #known_hosts.find("web-1", 22, { path }).keys)
    assert.equal(path .. ":3", known_hosts.find("web-1", 22, { path }).keys[1].place)
  end)

  it("finds hashed names, also with a port", function()
    sshd.write(path, "web-1 " .. keys.one .. "\n[web-1]:2222 " .. keys.two
      .. "\nweb-2,192.0.2.2 " .. keys.ecdsa .. "\n")
    assert.equal(0, assert(proc.run { argv = { "ssh-keygen", "-H", "-f", path } }).code)
    assert.not_matches("web", sshd.read(path), 1, true)
    for _, host in ipairs { "web-1", "web-2", "192.0.2.2", "web-3" } do
      for _, port in ipairs { 22, 2222, 2223 } do same(host, port) end
    end
    assert.same({ keys.two }, texts(known_hosts.find("web-1", 2222, { path }).keys))
  end)

  it("matches wildcards and negations", function()
    sshd.write(path, table.concat({
      "*.example.com,!old.example.com " .. keys.one, "web-? " .. keys.two,
      "[*.example.com]:22?? " .. keys.ecdsa, "!*,x " .. keys.rsa,
    }, "\n") .. "\n")
    for _, host in ipairs { "a.example.com", "old.example.com", "example.com", "web-1", "web-12",
      "x", "a.b.example.com" } do
      for _, port in ipairs { 22, 2222 } do same(host, port) end
    end
    assert.equal(0, #known_hosts.find("old.example.com", 22, { path }).keys)
  end)

  it("tells revoked keys and authorities apart", function()
    sshd.write(path, "@revoked * " .. keys.two .. "\n@cert-authority *.example.com " .. keys.ca
      .. "\n@future-marker web-1 " .. keys.rsa .. "\nweb-1 " .. keys.one .. "\n")
    same("a.example.com", 22)
    assert.same({ "@revoked " .. keys.two, keys.one }, known_hosts.pins("web-1", 22, { path }))
    assert.same({ keys.one }, texts(known_hosts.find("web-1", 22, { path }).keys))
  end)

  it("never lets one line hide another", function()
    sshd.write(path, table.concat({
      "web-1 sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAA",
      "web-1 ssh-ed25519 !!!!", "web-1 ssh-ed25519 AAAA", "web-1", "web-1 ssh-ed25519",
      "web-1 1024 35 12345678901234567890", "|1|broken " .. keys.two, "|1|a|b|c " .. keys.two,
      "|2|YQ==|YQ== " .. keys.two, "web-1 ssh-rsa " .. keys.one:match(" (.*)"), "\0\255\1",
      "@revoked", "@", "web-1 ssh-future AAAACnNzaC1mdXR1cmUAAAAB", "web-1 " .. keys.one,
    }, "\n"))
    assert.same({ keys.one }, texts(known_hosts.find("web-1", 22, { path }).keys))
  end)

  it("reads several files, and takes absent ones as empty", function()
    sshd.write(path, "web-1 " .. keys.one .. "\n")
    sshd.write(dir .. "/global", "web-1 " .. keys.ecdsa .. "\r\n")
    assert.same({ keys.one, keys.ecdsa },
      known_hosts.pins("web-1", 22, { path, dir .. "/absent", dir .. "/global" }))
  end)

  it("says why no key is usable, and the way out", function()
    local function refused(text, said)
      sshd.write(path, text)
      local ok, err = pcall(known_hosts.pins, "web-1", 2222, { path })
      assert.is_false(ok)
      assert.equal("host_key", err.kind)
      assert.matches(said, err.message, 1, true)
      assert.matches("ssh-keyscan -p 2222 web-1, or give 'host_key'", err.message, 1, true)
    end
    refused("", "[web-1]:2222 is in none of " .. path)
    refused("@cert-authority * " .. keys.ca, path .. ":1 trusts [web-1]:2222 by a certificate")
    refused("web-1 " .. keys.one .. "\n@revoked web-1 " .. keys.one, path .. ":2 revokes the only")
    refused("web-1 ssh-future AAAACnNzaC1mdXR1cmUAAAAB", "by a ssh-future key")
  end)
end)
