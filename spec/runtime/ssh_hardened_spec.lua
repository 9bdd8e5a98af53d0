---Hosts that were hardened after the usual guides. libssh2 1.10 cannot talk to some of them: then
---the error says what the host offers and what kiln has, and asks for no weaker host. 1.11 can.
local sshd = require "spec.support.sshd"
local exec = require "rt.exec"
local fs = require "rt.fs"
local ssh = require "rt.ssh"
local transfer = require "rt.transfer"

local old = ssh.library():find "^1%.10%." ~= nil

local guide = [[
KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org
HostKeyAlgorithms ssh-ed25519,rsa-sha2-512,rsa-sha2-256
Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com
MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,umac-128-etm@openssh.com]]

---@type { name: string, config: string, host_key: string?, said: string, never: boolean? }[]
local hosts = {
  { name = "MACs of the etm kind only",
    config = "MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com",
    said = "no MAC in common: the host offers hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm" },
  { name = "chacha20 only", config = "Ciphers chacha20-poly1305@openssh.com",
    said = "no cipher in common: the host offers chacha20-poly1305@openssh.com, kiln with libssh2 "
      .. ssh.library() .. " has aes128-ctr,aes256-ctr" },
  { name = "GCM only", config = "Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com",
    said = "no cipher in common: the host offers aes256-gcm@openssh.com,aes128-gcm@openssh.com" },
  { name = "all that a guide says", config = guide, said = "no cipher in common" },
  { name = "an RSA host key only", config = "", host_key = "-t rsa -b 2048",
    said = "only an RSA key of the host is known, and libssh2 " .. ssh.library() .. " cannot use" },
  { name = "a key exchange that libssh2 does not have", never = true,
    config = "KexAlgorithms sntrup761x25519-sha512@openssh.com",
    said = "no key exchange in common: the host offers sntrup761x25519-sha512" },
}

describe("rt.ssh and a host that has", function()
  for _, host in ipairs(hosts) do
    it(host.name, function()
      local server <close> = sshd.start { config = host.config, host_key = host.host_key }
      local session, err = ssh.connect(server:options())
      if old or host.never then
        assert.is_nil(session)
        assert.equal("unsupported", err.kind)
        assert.matches(host.said, err.message, 1, true)
        assert.not_matches("allow ", err.message, 1, true)
        local way_out = err.message:find("libssh2 1.11 (Debian 13)", 1, true) ~= nil
        assert.equal(not host.never, way_out)
        return
      end
      assert.is_nil(err)
      local bytes = ("x"):rep(3 << 20)
      assert.equal("yes\n", assert(exec.run(session, "echo yes")).out)
      assert(transfer.upload(session, { content = bytes, target = server.dir .. "/up" }))
      assert(transfer.download(session, {
        source = server.dir .. "/up", target = server.dir .. "/down" }))
      assert.is_true(fs.read(server.dir .. "/down", { max = 4 << 20 }) == bytes)
      session:close()
    end)
  end

  it("an RSA host key that is not the pinned one", function()
    local server <close> = sshd.start { host_key = "-t rsa -b 2048" }
    local other <close> = sshd.start()
    local session, err = ssh.connect(server:options { host_key = other.host_key })
    assert.is_nil(session)
    assert.equal(old and "unsupported" or "host_key", err.kind)
    assert.matches(old and "no type of host key in common: the host offers rsa-sha2-512,rsa-sha2"
      or "no host key of the pinned type (ssh-ed25519)", err.message, 1, true)
  end)
end)
