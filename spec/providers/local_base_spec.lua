---The base's archive, with a stand-in for mmdebstrap: no network, no minute of waiting.
local fs = require "rt.fs"
local proc = require "rt.proc"
local scope = require "kiln.scope"
local timer = require "rt.timer"

local ask = [[
local base = require "providers.local.base"
local ok, result = pcall(base.archive, arg[1], arg[2], function(text) print("told " .. text) end)
print((ok and "path " or "error ") .. tostring(result))
]]

describe("the base root file system", function()
  local dir, archives

  before_each(function()
    dir = assert(fs.temp_dir())
    archives = dir .. "/base"
    assert(fs.write(dir .. "/ask.lua", ask))
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  ---Puts a program into the place of mmdebstrap: `$out` is the archive that it is asked for.
  local function stand_in(script)
    assert(fs.mkdir(dir .. "/bin", { parents = true }))
    assert(fs.write(dir .. "/bin/mmdebstrap", "#!/bin/sh\nprintf '%s\\n' \"$@\" > " .. dir
      .. "/args\nfor out; do case $out in *.tar.zst) break;; esac; done\n" .. script .. "\n",
      { mode = "0755" }))
  end

  local function options(name)
    return {
      argv = { proc.info().exe, "lua", dir .. "/ask.lua", archives, name or "debian-13" },
      env = { PATH = dir .. "/bin:" .. proc.getenv "PATH", KILN_DEBIAN_MIRROR = "http://m/debian" },
    }
  end

  local function archive(name)
    local done = assert(proc.run(options(name)))
    assert.equal(0, done.code, done.err)
    return done.out
  end

  it("is made once, and told about", function()
    stand_in "echo 'I: running apt-get update...' >&2; echo whole > $out; echo x >> $0.count"
    local out = archive()
    assert.matches("told making the base root file system from http://m/debian", out, 1, true)
    assert.matches("told running apt-get update...", out, 1, true)
    local path = out:match "path (%S+)"
    assert.equal("whole\n", fs.read(path))
    assert.equal("path " .. path .. "\n", archive())
    assert.equal("x\n", fs.read(dir .. "/bin/mmdebstrap.count"))
    assert.same({ path:match "[^/]+$", "lock" }, fs.list(archives))
  end)

  it("is Debian 13 with what a machine needs, from signed packages", function()
    stand_in "echo whole > $out"
    archive()
    local args = fs.read(dir .. "/args")
    assert.matches("--include=systemd,", args, 1, true)
    assert.matches("openssh-server,cloud-init", args, 1, true)
    assert.matches("\ntrixie\n", args, 1, true)
    assert.matches("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg", args, 1, true)
    assert.matches("deb http://m/debian trixie main", args, 1, true)
    assert.matches("trixie-security main", args, 1, true)
  end)

  it("is made by one kiln when two want it", function()
    stand_in "echo x >> $0.count; sleep 0.5; echo whole > $out"
    local outs = scope.all({ 1, 2 }, function() return archive() end)
    assert.equal("x\n", fs.read(dir .. "/bin/mmdebstrap.count"))
    local waited = 0
    for _, out in ipairs(outs) do
      assert.matches("path ", out)
      if out:find("another kiln is making it", 1, true) then waited = waited + 1 end
    end
    assert.equal(1, waited)
  end)

  it("is made anew when its making was cut off", function()
    stand_in "echo half > $out; echo $$ > $0.pid; exec sleep 60"
    local child = assert(proc.start(options()))
    local deadline = timer.now() + 20
    while not fs.stat(dir .. "/bin/mmdebstrap.pid") and timer.now() < deadline do
      timer.sleep(0.02)
    end
    child:kill "KILL"
    child:wait()
    local left = fs.read(dir .. "/bin/mmdebstrap.pid"):match "%d+"
    assert(proc.run { argv = { "kill", "-9", left } }) -- it may be gone with the others
    stand_in "echo whole > $out"
    local path = archive():match "path (%S+)"
    assert.equal("whole\n", fs.read(path))
    assert.same({ path:match "[^/]+$", "lock" }, fs.list(archives))
  end)

  it("says which mirror does not answer, and what to do", function()
    stand_in "echo 'E: Could not resolve m' >&2; echo half > $out; exit 25"
    local out = archive()
    assert.matches("error unreachable: .*http://m/debian", out)
    assert.matches("KILN_DEBIAN_MIRROR", out, 1, true)
    assert.same({ "lock" }, fs.list(archives))
  end)

  it("says why mmdebstrap failed", function()
    stand_in "echo 'E: no space left on device' >&2; exit 25"
    assert.matches("error exit: .*status 25.*no space left on device", archive())
  end)

  it("names the bases that there are", function()
    assert.matches("error not_found: .*'ubuntu'.*debian%-13", archive "ubuntu")
  end)
end)
