local crypto = require "rt.crypto"
local proc = require "rt.proc"
local user_data = require "kiln.user_data"

local ours = {
  ssh_authorized_keys = { "ssh-ed25519 AAAA kiln" }, ssh_keys = { ed25519_public = "x" },
}

---Packs as gzip(1) does; in base64 on the way, for what a pipe's text would not carry.
local function packed(text)
  local done = proc.run { argv = { "sh", "-c", "base64 -d | gzip -c | base64 -w0" },
    stdin = crypto.base64(text) }
  return crypto.unbase64(done.out)
end

local function refused(call, ...)
  local ok, err = pcall(call, ...)
  assert.is_false(ok)
  assert.equal("invalid", err.kind)
  return err.message
end

describe("kiln.user_data", function()
  it("knows each kind by its first line, in any case, as cloud-init does", function()
    for text, kind in pairs {
      ["#!/bin/sh\n"] = "x-shellscript", ["#cloud-config\na: 1"] = "cloud-config",
      ["#Cloud-Config\na: 1"] = "cloud-config", ["#cloud-boothook\n"] = "cloud-boothook",
      ["#cloud-config-archive\n- x"] = "cloud-config-archive",
      ["#cloud-config-jsonp\n[]"] = "cloud-config-jsonp", ["#include\nhttp://x"] = "x-include-url",
      ["#include-once\nhttp://x"] = "x-include-once-url", ["#part-handler\n"] = "part-handler",
      ["## template: jinja\n#cloud-config"] = "jinja2",
      ["\xEF\xBB\xBF\n  #!/bin/sh\n"] = "x-shellscript",
    } do
      assert.equal(kind, user_data.read(text).type)
      assert.equal(kind, user_data.read(packed(text)).type)
    end
    local mail = "Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n--x--\n"
    assert.is_nil(user_data.read(mail).type)
    assert.equal(mail, user_data.read(packed(mail)).content)
    assert.equal("x-shellscript", user_data.read("#!/bin/sh\ncat <<E\nMIME-Version: 1.0\nE\n").type)
  end)

  it("takes nothing for no user-data", function()
    for _, text in ipairs { "", " \n", "#cloud-config\n", "#cloud-config\n# nothing yet\n" } do
      assert.is_nil(user_data.read(text))
    end
    assert.is_nil(user_data.read(nil))
  end)

  it("refuses what would not run, and shows none of it", function()
    for text, message in pairs {
      ["apt-get install hunter2"] = "first line", ["# a comment: hunter2\n"] = "first line",
      ["hunter2: x\n\nbody"] = "first line", ["#cloud-config\n- hunter2"] = "must be a map",
      ["#cloud-config\nhunter2"] = "must be a map", ["#cloud-config\na: [hunter2"] = "line 3",
      ["#!/bin/sh\nhunter2 \xE9"] = "UTF-8", ["\x1F\x8Bhunter2"] = "gzip",
    } do
      local said = refused(user_data.read, text)
      assert.matches(message, said, 1, true)
      assert.is_nil(said:find("hunter2", 1, true))
    end
    assert.matches("cloudinit.config", refused(user_data.read, { runcmd = {} }), 1, true)
    assert.matches("a secret", refused(user_data.read, crypto.secret "#!/bin/sh"), 1, true)
  end)

  it("leaves to cloud-init the YAML that kiln does not read", function()
    local text = "#cloud-config\nx: &x {a: 1}\nruncmd: [a]\ny:\n  <<: *x\n"
    assert.is_truthy(user_data.join(ours, text):find("\n" .. text, 1, true))
  end)

  it("names what a recipe and kiln set differently, never the values", function()
    local said = refused(user_data.join, ours,
      "#cloud-config\nssh_keys: {ed25519_public: hunter2}\n")
    assert.matches("ssh_keys.ed25519_public", said, 1, true)
    assert.is_nil(said:find("hunter2", 1, true))
    assert.matches("ssh_authorized_keys must be a list", refused(user_data.join, ours,
      "#cloud-config\nssh_authorized_keys: hunter2\n"), 1, true)
    user_data.join(ours,
      "#cloud-config\nssh_keys: {rsa_public: y}\nssh_authorized_keys: [z]\n")
  end)

  it("joins the same texts to one document, with a line between parts that none has", function()
    local once = user_data.join(ours, "#!/bin/sh\necho 1\n")
    assert.equal(once, user_data.join(ours, "#!/bin/sh\necho 1\n"))
    local twice = user_data.join(ours, once)
    local boundary = twice:match('boundary="([^"]+)"')
    assert.is_nil(once:find(boundary, 1, true))
    assert.equal(3, select(2, twice:gsub("%-%-" .. boundary:gsub("%-", "%%-"), "")))
  end)

  it("refuses parts that cloud-init would lose", function()
    local script = "#!/bin/sh\n"
    for message, parts in pairs {
      ["type 'shellscript'"] = { { type = "shellscript", content = script } },
      ["type 'nil'"] = { { content = script } },
      ["field 'name'"] = { { type = "x-shellscript", content = script, name = "x" } },
      ["needs its content"] = { { type = "x-shellscript" } },
      ["its interpreter"] = { { type = "x-shellscript-per-boot", content = "echo" } },
      ["same filename"] = { { type = "x-shellscript", content = script, filename = "a" },
        { type = "x-shellscript", content = script, filename = "a" } },
      ["a filename has"] = { { type = "x-shellscript", content = script, filename = "a/b" } },
      ["a list of parts"] = {},
    } do
      assert.matches(message, refused(user_data.multipart, parts), 1, true)
    end
  end)
end)
