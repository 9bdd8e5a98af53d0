local cloudinit = require "kiln.cloudinit"
local yaml = require "rt.yaml"

local function config(...) return yaml.decode((cloudinit.config { ... })) end

describe("kiln.cloudinit", function()
  it("appends lists and merges maps of its fragments", function()
    assert.same({ runcmd = { "a", "b" }, ssh = { x = 1, y = 2 } },
      config({ runcmd = { "a" }, ssh = { x = 1 } }, cloudinit.run("b"), { ssh = { y = 2 } }))
  end)

  it("raises when two fragments set the same thing differently", function()
    local ok, err = pcall(config, { hostname = "a" }, { hostname = "b" })
    assert.is_false(ok)
    assert.equal("invalid", err.kind)
    assert.matches("hostname: a and b", err.message, 1, true)
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
    assert.has_error(function() cloudinit.env_file("/x", { A = "two\nlines" }) end)
  end)

  it("raises limit with both sizes", function()
    local ok, err = pcall(cloudinit.config,
      { cloudinit.write_file("/x", ("x"):rep(70000)) })
    assert.is_false(ok)
    assert.equal("limit", err.kind)
  end)
end)
