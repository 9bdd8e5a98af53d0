---Where the token is looked for, and what a user without one reads: a run of its own each time.
local fs = require "rt.fs"
local proc = require "rt.proc"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

describe("the token", function()
  local dir

  before_each(function()
    dir = assert(fs.temp_dir())
    assert(fs.write(dir .. "/r.lua", [[
      local m = {}
      function m.deploy(run) return run.cloud.name end
      return m
    ]]))
  end)
  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  local function run(env)
    local all = { KILN_PATH = tree, NO_COLOR = "1", HOME = dir, PATH = "/usr/bin:/bin",
      XDG_CONFIG_HOME = "", DIGITALOCEAN_TOKEN = "", DIGITALOCEAN_ACCESS_TOKEN = "" }
    for name, value in pairs(env) do all[name] = value end
    return assert(proc.run {
      argv = { exe, "run", dir .. "/r.lua", "--cloud", "digitalocean" }, env = all, timeout = 60,
    })
  end

  it("that is nowhere ends the run with exit 7, and says where it was looked for", function()
    local done = run {}
    assert.equal(7, done.code, done.err)
    for _, words in ipairs { "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN",
      dir .. "/.config/doctl/config.yaml", "https://cloud.digitalocean.com" } do
      assert.matches(words, done.err, 1, true)
    end
  end)

  it("is taken from either variable, and from doctl's file and its context", function()
    assert.equal(0, run({ DIGITALOCEAN_TOKEN = "dop_v1_a" }).code)
    assert.equal(0, run({ DIGITALOCEAN_ACCESS_TOKEN = "dop_v1_b" }).code)
    assert(fs.mkdir(dir .. "/.config/doctl", { parents = true }))
    local file = dir .. "/.config/doctl/config.yaml"
    assert(fs.write(file, "access-token: dop_v1_c\ncontext: default\n"))
    assert.equal(0, run({}).code)
    assert(fs.write(file, "context: work\nauth-contexts:\n  work: dop_v1_d\n"))
    assert.equal(0, run({}).code)
    assert(fs.write(file, "context: gone\nauth-contexts:\n  work: dop_v1_d\n"))
    assert.equal(7, run({}).code)
  end)
end)
