---A size that a recipe names, on real local machines.
local fs = require "rt.fs"
local local_site = require "spec.support.local_site"
local proc = require "rt.proc"

local exe = assert(fs.realpath("/proc/self/exe"))

local recipe = [=[
local bake = require "recipes.bake"
local web = { name = "sized" }
web.args = { size = { "of the builder", required = true }, mb = { "to write", default = "10" } }

---Bakes an image.
function web.bake(run, args)
  return bake(run, {
    name = web.name, base = "debian-13", size = args.size,
    build = function(box)
      box:run("dd if=/dev/zero of=/srv/f bs=1M count=" .. args.mb .. " 2>&1")
    end,
  })
end
return web
]=]

describe("a size", function()
  local lacking = local_site.lacking()
  local dir, site

  setup(function()
    if lacking then return end
    dir, site = assert(fs.temp_dir()), local_site.make "size"
    assert(fs.write(dir .. "/web.lua", recipe))
  end)
  teardown(function()
    if lacking then return end
    local_site.remove(site)
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function bake(...)
    return assert(proc.run { argv = { exe, "run", "web.lua", "bake", "--yes", ... }, cwd = dir,
      env = { KILN_LOCAL_DIR = site, KILN_LOCAL_BASE = local_site.archives }, timeout = 200 })
  end

  local function on_machines(name, body)
    it(name, function()
      if lacking then pending("NOT RUN: " .. lacking) return end
      body()
    end)
  end

  on_machines("names the disk: a build that fills it says so, and nothing is left", function()
    local done = bake("--size", "1vcpu-512mb-80mb", "--mb", "300")
    assert.equal(3, done.code)
    assert.matches("No space left on device", done.out .. done.err, 1, true)
    assert.same({}, fs.list(site .. "/machines"))
  end)

  on_machines("is changed in the recipe, and the image is baked", function()
    local done = bake("--size", "1vcpu-512mb-1gb")
    assert.equal(0, done.code, done.err)
    assert.matches("image sized .* baked", done.out .. done.err)
  end)

  on_machines("is refused before anything is made when no machine boots with it", function()
    for _, size in ipairs { "1mb", "2gb-0gb", "512mb-1mb" } do
      local done = bake("--size", size)
      assert.equal(3, done.code)
      assert.matches("web.lua:%d+: size " .. size:gsub("%-", "%%-") .. ": a machine does not boot",
        done.out .. done.err)
      assert.same({}, fs.list(site .. "/machines"))
    end
  end)
end)
