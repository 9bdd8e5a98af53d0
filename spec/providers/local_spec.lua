local fs = require "rt.fs"
local proc = require "rt.proc"
local scope = require "kiln.scope"
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

describe("a local site", function()
  local site, driver
  before_each(function()
    site = local_site.make "addresses"
    driver = provider.new { dir = site, archives = local_site.archives }
  end)
  after_each(function() local_site.remove(site) end)

  ---Tells whether the site's cable to the host is there; its name comes from the site's folder.
  local function has_network()
    local id = fs.read(site .. "/id")
    if not id then return false end
    local link = "kl-" .. id:sub(1, 8)
    return assert(proc.run { argv = { "ip", "link", "show", link } }).code == 0
  end

  it("gives every name its own address, also when all are made at once", function()
    local names = { "a", "b", "c", "a", "b", "c" }
    local made = scope.all(names, function(name)
      return driver:create_address { name = name }
    end)
    assert.equal(3, #driver:addresses())
    for index, row in ipairs(made) do
      assert.equal(driver:address(names[index]).ip, row.ip)
    end
  end)

  it("says whose machine has a name already", function()
    local image = driver:base_image("debian-13", function() end).id
    local function create(token, project)
      return driver:create_machine { name = "web-1", token = token, image = image,
        tags = { kiln_project = project, kiln_env = "default", kiln_service = "web" } }
    end
    create("kl-1-1", "aaaa")
    local _, ours = pcall(create, "kl-2-1", "aaaa")
    assert.equal("exists", ours.kind)
    assert.matches("web-1 already, of this project, environment default", ours.message, 1, true)
    assert.matches("kiln gc", ours.message, 1, true)
    local _, theirs = pcall(create, "kl-3-1", "bbbb")
    assert.equal("exists", theirs.kind)
    assert.matches("web-1 already, of project aaaa", theirs.message, 1, true)
  end)

  it("ends its network with the last address when no machine is there", function()
    assert.is_false(has_network())
    local first = driver:create_address { name = "first" }
    local second = driver:create_address { name = "second" }
    assert.is_true(has_network())
    driver:destroy_address(first.id)
    assert.equal("second", driver:address("second").name)
    assert.is_true(has_network())
    driver:destroy_address(second.id)
    assert.is_false(has_network())
  end)
end)

local dir
conformance("the local cloud", function()
  dir = local_site.make "conformance"
  return provider.new { dir = dir, archives = local_site.archives }
end, {
  base = "debian-13",
  after = function() local_site.remove(dir) end,
})
