local fs = require "rt.fs"
local local_site = require "spec.support.local_site"
local mirror = require "providers.local.mirror"
local provider = require "providers.local"

local conformance = assert(loadfile("spec/providers/conformance.lua", "t", _ENV))()

describe("a local mirror", function()
  local dir
  before_each(function()
    dir = assert(fs.temp_dir())
    assert(fs.mkdir(dir .. "/sources.list.d"))
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("is Debian's own when apt has none", function()
    local main, security = mirror.of(dir)
    assert.equal("http://deb.debian.org/debian", main)
    assert.equal("http://deb.debian.org/debian-security", security)
  end)

  it("is the host's, in the one-line format", function()
    assert(fs.write(dir .. "/sources.list", "# deb http://old/debian x main\n"
      .. "deb [arch=amd64 signed-by=/k] https://mirror.example/debian/ bookworm main\n"
      .. "deb http://sec.example/debian-security bookworm-security main\n"))
    local main, security = mirror.of(dir)
    assert.equal("https://mirror.example/debian", main)
    assert.equal("http://sec.example/debian-security", security)
  end)

  it("is the host's, in the deb822 format", function()
    assert(fs.write(dir .. "/sources.list.d/a.sources",
      "Types: deb\nURIs: https://deb.other.org/node\n"))
    assert(fs.write(dir .. "/sources.list.d/debian.sources",
      "Types: deb\n# x\nURIs: http://ftp.example/debian\nSuites: bookworm\n"))
    assert.equal("http://ftp.example/debian", (mirror.of(dir)))
  end)
end)

local reason = local_site.lacking()
if reason then
  pending("local machines pass the conformance suite: NOT RUN, " .. reason)
  return
end

local dir
conformance("the local cloud", function()
  dir = local_site.make "conformance"
  return provider.new { dir = dir, archives = local_site.archives }
end, {
  base = "debian-13",
  after = function() local_site.remove(dir) end,
})
