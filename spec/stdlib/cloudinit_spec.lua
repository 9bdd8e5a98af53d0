local cloudinit = require "kiln.cloudinit"
local crypto = require "rt.crypto"
local proc = require "rt.proc"
local yaml = require "rt.yaml"

---The configuration of fragments, without what makes commands stop at a failure.
local function config(...)
  local got = yaml.decode((cloudinit.config { ... }))
  if got.runcmd then assert(table.remove(got.runcmd, 1) == "set -e") end
  return got
end

describe("kiln.cloudinit", function()
  it("appends lists and merges maps of its fragments", function()
    assert.same({ runcmd = { "a", "b" }, ssh = { x = 1, y = 2 } },
      config({ runcmd = { "a" }, ssh = { x = 1 } }, cloudinit.run_command "b", { ssh = { y = 2 } }))
  end)

  it("raises when two fragments set the same thing differently", function()
    local ok, err = pcall(config, { hostname = "a" }, { hostname = "b" })
    assert.is_false(ok)
    assert.equal("invalid", err.kind)
    assert.matches("set hostname differently", err.message, 1, true)
    assert.same({ hostname = "a" }, config({ hostname = "a" }, { hostname = "a" }))
  end)

  it("writes environment files that systemd reads back", function()
    local fragment = cloudinit.env_file("/opt/app.env", { B = 'say "hi" $HOME `x` \\', A = 1 })
    local file = fragment.write_files[1]
    assert.equal('A="1"\nB="say \\"hi\\" \\$HOME \\`x\\` \\\\"\n', file.content)
    assert.equal("0640", file.permissions)
  end)

  it("refuses names and values that an environment file cannot carry", function()
    assert.has_error(function() cloudinit.env_file("/x", { ["a b"] = "1" }) end)
    assert.has_error(function() cloudinit.env_file("/x", { A = "return\r" }) end)
    assert.has_error(function() cloudinit.env_file("/x", { A = "not UTF-8 \xff" }) end)
  end)

  it("refuses secrets unless the recipe insists", function()
    local secret = crypto.secret "hunter2"
    for _, call in ipairs {
      function(opts) return cloudinit.env_file("/x", { PASSWORD = secret }, opts) end,
      function(opts) return cloudinit.write_file("/x", secret, opts) end,
    } do
      local ok, err = pcall(call)
      assert.is_false(ok)
      assert.equal("invalid", err.kind)
      assert.matches("is a secret", err.message, 1, true)
      assert.matches("hunter2", call { secrets = true }.write_files[1].content, 1, true)
    end
  end)

  it("refuses a value that is no text, a relative path, a wrong mode, an unknown option", function()
    for _, call in ipairs {
      function() cloudinit.env_file("/x", { A = {} }) end,
      function() cloudinit.write_file("x", "") end,
      function() cloudinit.write_file("/x", "", { mode = "rw" }) end,
      function() cloudinit.write_file("/x", nil) end,
      function() cloudinit.run_command { command = "x" } end,
      function() cloudinit.user "Not a name" end,
      function() cloudinit.config { runcmd = { "a" } } end,
    } do
      local ok, err = pcall(call)
      assert.is_false(ok)
      assert.equal("invalid", err.kind)
    end
    assert.error_matches(function() cloudinit.write_file("/x", "", { perm = "0644" }) end, "'perm'")
    assert.error_matches(function() cloudinit.user("x", { key = "" }) end, "'key'")
  end)

  it("keeps every fragment as it was", function()
    local one, two = { runcmd = { "a" } }, { runcmd = { "b" } }
    assert.same({ runcmd = { "a", "b" } }, config(one, two))
    assert.same({ runcmd = { "a" } }, one)
  end)

  it("takes an empty table for an empty list or an empty map", function()
    assert.same({ runcmd = { "a" } }, config({ runcmd = {} }, { runcmd = { "a" } }))
    assert.same({ runcmd = { "a" } }, config({ runcmd = { "a" } }, { runcmd = {} }))
    assert.equal("#cloud-config\n{}\n", cloudinit.config {})
  end)

  it("appends words of a command as one command", function()
    assert.same({ runcmd = { "echo a b", { "echo", "a b" } } },
      config(cloudinit.run_command "echo a b", cloudinit.run_command { "echo", "a b" }))
  end)

  it("gives machines users, keys and their host key", function()
    local pair = crypto.ed25519_keypair "host"
    local got = config(
      cloudinit.user("app", { keys = { "ssh-ed25519 AAAA a" }, sudo = true }),
      cloudinit.authorized_keys { "ssh-ed25519 BBBB b" },
      cloudinit.authorized_keys { "ssh-ed25519 CCCC c" },
      cloudinit.host_key(pair.private, pair.public))
    assert.equal("default", got.users[1])
    assert.equal("app", got.users[2].name)
    assert.is_true(got.users[2].lock_passwd)
    assert.same({ "ssh-ed25519 BBBB b", "ssh-ed25519 CCCC c" }, got.ssh_authorized_keys)
    assert.equal(crypto.reveal(pair.private), got.ssh_keys.ed25519_private)
    assert.equal(pair.public, got.ssh_keys.ed25519_public)
    assert.is_true(got.ssh_deletekeys)
  end)

  it("writes an environment file whose values a shell reads back too", function()
    local values = { A = "it's $HOME", B = [[back\slash \\ "quoted" `x`]], C = " ends ", D = "",
      E = "é=#;&|" }
    local content = cloudinit.env_file("/x", values).write_files[1].content
    local result = proc.run {
      argv = { "sh", "-c", content .. [[printf '%s|' "$A" "$B" "$C" "$D" "$E"]] },
    }
    assert.equal(("%s|%s|%s|%s|%s|"):format(values.A, values.B, values.C, values.D, values.E),
      result.out)
  end)

  it("makes commands stop at the first that fails", function()
    local text = cloudinit.config { { runcmd = { "false", "true" } }, cloudinit.run_command "x" }
    assert.same({ runcmd = { "set -e", "false", "true", "x" } }, yaml.decode(text))
    assert.equal("#cloud-config\nbootcmd:\n- x\n", cloudinit.config { { bootcmd = { "x" } } })
  end)

  it("writes files of any bytes, added to others, written late", function()
    local function file(...) return cloudinit.write_file(...).write_files[1] end
    for _, bytes in ipairs { "\0", "caf\xE9", "a\27[0m", ("\xFF"):rep(100) } do
      local made = file("/x", bytes)
      assert.equal("b64", made.encoding)
      assert.equal(bytes, crypto.unbase64(made.content))
    end
    local text = "é ü\n\tx\r\n"
    assert.equal(text, config(cloudinit.write_file("/x", text)).write_files[1].content)
    assert.is_nil(file("/x", text).encoding)
    assert.is_true(file("/x", "", { append = true }).append)
    assert.is_true(file("/x", "", { defer = true }).defer)
    assert.is_nil(file("/x", "").append)
  end)

  it("refuses a mode that cloud-init would not keep", function()
    for _, mode in ipairs { "4755", "2755", "6755", "7777", "3777" } do
      local ok, err = pcall(cloudinit.write_file, "/x", "", { mode = mode })
      assert.is_false(ok)
      assert.matches("cannot give /x the mode " .. mode, err.message, 1, true)
    end
    local sticky = cloudinit.write_file("/x", "", { mode = "1777" })
    assert.equal("1777", sticky.write_files[1].permissions)
  end)
end)
