---The Debian package, made by CPack from the build that runs this spec and unpacked beside it.
local lfs = require "lfs"

local build = lfs.symlinkattributes("/proc/self/exe", "target"):match("^(.*)/")

---Runs a shell command; its output is in the failure.
local function sh(command)
  local pipe = assert(io.popen("{ " .. command .. "; } 2>&1"))
  local out = pipe:read("a")
  local ok, _, code = pipe:close()
  assert(ok, ("%s: status %d\n%s"):format(command, code, out))
  return out
end

describe("the package", function()
  local dir, deb

  setup(function()
    dir = sh("mktemp -d"):match("%S+")
    sh(("cd '%s' && cpack --config CPackConfig.cmake -B '%s'"):format(build, dir))
    deb = sh(("ls '%s'/*.deb"):format(dir)):match("%S+")
    sh(("dpkg -x '%s' '%s/root'"):format(deb, dir))
  end)

  teardown(function()
    sh("rm -rf '" .. dir .. "'")
  end)

  it("holds a kiln that starts from where it was unpacked, with its Lua inside", function()
    local out = sh(("cd / && env -i '%s/root/usr/bin/kiln' version"):format(dir))
    assert.matches("^kiln %d+%.%d+%.%d+\n$", out)
  end)

  it("depends on the libraries that the program is linked with", function()
    local depends = sh(("dpkg -f '%s' Depends"):format(deb))
    for _, library in ipairs { "libc6", "liblua5.4-0", "libuv1", "lua-cjson", "libssl3" } do
      assert.matches(library, depends, 1, true)
    end
  end)

  it("recommends what local machines need", function()
    local recommends = sh(("dpkg -f '%s' Recommends"):format(deb))
    for _, package in ipairs { "mmdebstrap", "nftables", "iproute2", "passt" } do
      assert.matches(package, recommends, 1, true)
    end
  end)

  it("has the documents and the example with its releases", function()
    local files = sh(("dpkg -c '%s'"):format(deb))
    for _, path in ipairs { "doc/kiln/README.md", "doc/kiln/copyright",
      "examples/app/app.service", "examples/app/bin/app-v1" } do
      assert.matches("./usr/share/" .. (path:find("^doc") and path or "doc/kiln/" .. path), files,
        1, true)
    end
    assert.is_nil(files:find("/.kiln", 1, true))
  end)

  it("depends on the client that `kiln ssh` runs", function()
    assert.matches("openssh-client", sh(("dpkg -f '%s' Depends"):format(deb)), 1, true)
  end)

  it("has the completion of each shell as kiln prints it", function()
    for shell, path in pairs {
      bash = "bash-completion/completions/kiln", zsh = "zsh/vendor-completions/_kiln",
      fish = "fish/vendor_completions.d/kiln.fish",
    } do
      sh(("'%s/kiln' completion %s | cmp - '%s/root/usr/share/%s'"):format(build, shell, dir, path))
    end
  end)

  it("has a manual page that groff takes without a warning", function()
    local page = dir .. "/root/usr/share/man/man1/kiln.1"
    assert.equal("", sh(("groff -ww -z -man -Tutf8 '%s'"):format(page)))
    assert.matches("rollback", sh(("groff -man -Tascii -P-cbou '%s'"):format(page)), 1, true)
  end)

  it("has the types for editors", function()
    for _, path in ipairs { "meta/rt_timer.lua", "kiln/probe.lua", "recipes/bake.lua" } do
      assert.is_truthy(lfs.attributes(dir .. "/root/usr/share/kiln/types/" .. path), path)
    end
  end)
end)
