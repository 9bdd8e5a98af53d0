---Completion as the shells themselves do it.
local fs = require "rt.fs"
local proc = require "rt.proc"

local exe = assert(fs.realpath("/proc/self/exe"))
local tree = assert(fs.cwd())

local recipe = [[
local app = { environments = { "production", "staging" } }
app.args = { version = { "which release", choices = { "v1", "v2" } } }
---Puts it into service.
function app.deploy() end
---Takes it away.
function app.remove() end
return app
]]

describe("completion", function()
  local dir

  setup(function()
    dir = assert(fs.temp_dir())
    assert(fs.write(dir .. "/app.lua", recipe))
    assert(fs.write(dir .. "/broken.lua", "return ("))
    assert(fs.mkdir(dir .. "/bin"))
    assert(proc.run { argv = { "ln", "-s", exe, dir .. "/bin/kiln" } })
  end)

  teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  local function shell(...)
    local done = assert(proc.run { argv = { ... }, cwd = dir, timeout = 60, env = {
      PATH = dir .. "/bin:/usr/bin:/bin", KILN_PATH = tree, HOME = dir } })
    assert.equal(0, done.code, done.err)
    assert.equal("", done.err)
    return done.out
  end

  local function bash(...)
    local words = { "kiln", ... }
    local quoted = {}
    for index, word in ipairs(words) do quoted[index] = "'" .. word .. "'" end
    return shell("bash", "-c", ("source <(kiln completion bash); complete -p kiln >/dev/null; "
      .. "COMP_WORDS=(%s); COMP_CWORD=%d; _kiln; printf '%%s\n' \"${COMPREPLY[@]}\""):format(
      table.concat(quoted, " "), #words - 1))
  end

  local function fish(line)
    return shell("fish", "--no-config", "-c",
      ("kiln completion fish | source; complete -C '%s'"):format(line))
  end

  it("offers commands, recipes, entries, arguments and their choices in bash", function()
    assert.equal("resume\nrollback\nrun\nruns\n", bash("r"))
    assert.matches("app.lua\n", bash("run", "a"), 1, true)
    assert.equal("deploy\nremove\n", bash("run", "app.lua", ""))
    assert.equal("--verbose\n--version\n", bash("run", "app.lua", "--ve"))
    assert.equal("v1\nv2\n", bash("run", "app.lua", "--version", ""))
    assert.equal("production\n", bash("run", "app.lua", "-e", "p"))
  end)

  it("offers the same in fish, with descriptions", function()
    assert.matches("resume\tGo on with a run", fish "kiln r", 1, true)
    assert.equal("deploy\tPuts it into service.\nremove\tTakes it away.\n",
      fish "kiln run app.lua ")
    assert.matches("app.lua", fish "kiln run a", 1, true)
  end)

  it("is taken by zsh, sourced and from its folder of functions", function()
    assert.equal("_kiln\n", shell("zsh", "-f", "-c", "autoload -Uz compinit; compinit -D -u; "
      .. "source <(kiln completion zsh); print $_comps[kiln]"))
    assert.equal("_kiln\n", shell("zsh", "-f", "-c", "kiln completion zsh > bin/_kiln; "
      .. "fpath=($PWD/bin $fpath); autoload -Uz compinit; compinit -D -u; print $_comps[kiln]"))
  end)

  it("offers nothing and says nothing where a recipe does not load", function()
    assert.equal("\n", bash("run", "broken.lua", ""))
    assert.equal("\n", bash("show", ""))
    assert.equal("\n", bash("nonsense", ""))
    assert.is_nil(fs.stat(dir .. "/.kiln"))
  end)
end)
