---Completion as the shells themselves do it.
local fs = require "rt.fs"
local proc = require "rt.proc"
local stranger = require "spec.support.stranger"

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

---Types a line and TAB into zsh on a terminal of its own, and prints the line that is there then.
local at_terminal = [=[
zmodload zsh/zpty
zpty shell 'PS1= zsh -f -i'
zpty -w shell 'autoload -Uz compinit; compinit -D -u; source <(kiln completion zsh)'
zpty -w shell 'show-line() { print -r -- "line<$BUFFER>" }; zle -N show-line'
zpty -w shell 'bindkey "^I" complete-word; bindkey "^X" show-line; print all-is-"set"'
zpty -r shell out '*all-is-set*'
zpty -w -n shell "$1"$'\t\C-x'
zpty -r shell out '*line<*>*'
print -r -- "${${out##*line<}%%>*}"
zpty -d shell
]=]

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

  it("completes a line that is typed into zsh", function()
    local function zsh(line) return shell("zsh", "-f", "-c", at_terminal, "zsh", line) end
    assert.equal("kiln rollback \n", zsh "kiln rol")
    assert.equal("kiln run app.lua \n", zsh "kiln run a")
    assert.equal("kiln run app.lua deploy \n", zsh "kiln run app.lua d")
    assert.equal("kiln run app.lua -e staging \n", zsh "kiln run app.lua -e s")
  end)

  it("offers nothing and says nothing where a recipe does not load", function()
    assert.equal("\n", bash("run", "broken.lua", ""))
    assert.equal("\n", bash("show", ""))
    assert.equal("\n", bash("nonsense", ""))
    assert.is_nil(fs.stat(dir .. "/.kiln"))
  end)
end)

describe("completion in a project that has run", function()
  it("offers its runs, services and machines, each where it may stand", function()
    local missing = stranger.lacking()
    if missing then return pending(missing) end
    local user = stranger.new()
    local _ <close> = setmetatable({}, { __close = function() user:close() end })
    local function words(...)
      local _, out = user:must("__complete", ...)
      local list = {}
      for line in out:gmatch "[^\n]+" do list[#list + 1] = line end
      return list
    end
    local function run_of(said) return said:match "^run (%x+)" end

    user:write_recipe()
    local first = run_of(user:must("run", "app.lua", "deploy"))
    assert.same({}, words("rollback", "")) -- nothing is kept yet
    local second = run_of(user:must("run", "app.lua", "deploy", "--version", "v2"))
    user:write_recipe(nil, function(text) return (text:gsub("mkdir", "mkdirr")) end)
    local failed = user:kiln("run", "app.lua", "bake", "--version", "v3", "--on-error", "keep")
    assert.equal(4, failed.code, failed.err)
    local third = run_of(failed.err)

    local open = third .. "\tapp bake, kept"
    local all = { first .. "\tapp deploy, done", second .. "\tapp deploy, done", open }
    table.sort(all)
    assert.same(all, words("show", ""))
    assert.same(all, words("log", ""))
    assert.same({ open }, words("resume", ""))
    assert.same({ open }, words("abort", third:sub(1, 2)))
    assert.same({ "app\tback to v1" }, words("rollback", ""))
    assert.same({ "default" }, words("rollback", "app", "-e", ""))
    local names = {}
    for index, line in ipairs(words("ssh", "")) do names[index] = line:match "^(%S+)\tlocal$" end
    assert.equal(3, #names) -- the release that serves, the one that is kept, the failed builder
    assert.same(names, user:machines(names))
    assert.same({}, words("ssh", "nowhere"))
    assert.equal(3, user:kiln("abort", third).code)
    assert.same({}, words("resume", ""))
  end)
end)
