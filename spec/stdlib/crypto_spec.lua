local crypto = require "kiln.crypto"
local rt_crypto = require "rt.crypto"
local fs = require "rt.fs"
local proc = require "rt.proc"

describe("kiln.crypto", function()
  it("gives the fingerprint that ssh-keygen gives", function()
    local path = os.tmpname()
    local public = rt_crypto.ed25519_keypair("a comment").public
    assert(fs.write(path, public .. "\n"))
    local shown = assert(proc.run { argv = { "ssh-keygen", "-l", "-E", "md5", "-f", path } })
    os.remove(path)
    assert.equal(shown.out:match("MD5:(%S+)"), crypto.md5_fingerprint(public))
  end)

  it("raises for what is no public key", function()
    for _, text in ipairs { "", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa "
      .. rt_crypto.ed25519_keypair("x").public:match("%s(%S+)") } do
      local ok, err = pcall(crypto.md5_fingerprint, text)
      assert.is_false(ok)
      assert.equal("invalid", err.kind)
    end
  end)

  it("reads back what it writes, and raises for what is no base64", function()
    assert.equal("a\0\255", crypto.unbase64(crypto.base64("a\0\255")))
    assert.equal("invalid", select(2, pcall(crypto.unbase64, "!")).kind)
    assert.equal(64, #crypto.sha256(""))
  end)
end)
