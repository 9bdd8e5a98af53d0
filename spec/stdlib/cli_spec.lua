local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local timer = require "rt.timer"

local exe = assert(fs.realpath("/proc/self/exe"))
local tree = assert(fs.cwd())

local recipe = [[
---Stands for a service.
local op = require "kiln.op"
local app = { name = "app" }
app.args = { who = { "whom to greet", required = true }, times = { "how often", default = 1 } }

local function touch(name)
  return op.call { name = name, class = "idempotent", perform = function() return name end }
end

---Greets somebody.
function app.deploy(run, args)
  run:step { name = "greet", perform = function()
    touch "greet"
    return nil, "hello " .. args.who
  end }
  run:note "said"
  return { summary = "greeted" }
end

---Fails on the way, and undoes.
function app.broken(run)
  run:transaction(function(undo)
    run:step { name = "make", perform = function()
      touch "make"
      undo("make", function() touch "unmake" return nil, "unmade" end)
    end }
    run:step { name = "check", perform = function()
      error({ kind = "exit", message = "it broke", output = "first\nlast words\n" }, 0)
    end }
  end, { undone = "all as before" })
end

---Has a fault.
function app.faulty()
  local nothing
  return nothing.field
end

---Waits to be stopped.
function app.slow(run)
  run:step { name = "wait", perform = function()
    op.call { name = "wait", class = "idempotent", perform = function()
      require("kiln.spec_cli").sleep()
      return true
    end }
  end }
end

return app
]]

describe("the command line", function()
  local dir

  setup(function()
    dir = assert(fs.temp_dir())
    fs.mkdir(dir .. "/providers")
    fs.mkdir(dir .. "/stdlib/kiln", { parents = true })
    assert(fs.write(dir .. "/app.lua", recipe))
    assert(fs.write(dir .. "/bad.lua", "local x = = 1\n"))
    assert(fs.write(dir .. "/providers/none.lua",
      'return { new = function() return { name = "none", capabilities = {} } end }'))
    assert(fs.write(dir .. "/stdlib/kiln/spec_cli.lua", ([[
      return { sleep = function()
        require("rt.fs").write(%q, "")
        require("rt.timer").sleep(require("rt.fs").stat(%q) and 0 or 30)
      end }]]):format(dir .. "/waiting", dir .. "/go")))
  end)

  teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  local function options(words)
    return {
      argv = { exe, table.unpack(words) }, cwd = dir, timeout = 30,
      env = { KILN_PATH = dir .. ":" .. tree, KILN_CLOUD = "none", NO_COLOR = "1" },
    }
  end

  local function kiln(...) return assert(proc.run(options { ... })) end

  it("runs a recipe: progress on standard error, its notes on standard output", function()
    local done = kiln("run", "app.lua", "--who", "you")
    assert.equal(0, done.code, done.err)
    assert.equal("said\n", done.out)
    assert.matches("run %x%x%x%x · app · deploy · none", done.err)
    assert.matches("✓ greet%s+hello you", done.err)
    assert.matches("done in .* · greeted\n$", done.err)
  end)

  it("takes a recipe's argument in every spelling", function()
    for _, words in ipairs { { "--who=you" }, { "--var", "who=you" }, { "deploy", "--who", "you" },
      { "--who", "you", "--times=3" } } do
      assert.equal(0, kiln("run", "app.lua", table.unpack(words)).code)
    end
  end)

  it("says what is wrong with the words, with status 64", function()
    for _, case in ipairs {
      { { "bogus" }, "no command 'bogus'" },
      { { "run" }, "missing argument" },
      { { "run", "nope.lua" }, "no recipe at nope.lua" },
      { { "run", "app.lua" }, "app.lua needs %-%-who %(whom to greet%)" },
      { { "run", "app.lua", "--who", "x", "--wat", "1" }, "takes no argument 'wat'" },
      { { "run", "app.lua", "--who", "x", "--times", "many" }, "must be a number" },
      { { "run", "app.lua", "nope", "--who", "x" }, "no entry 'nope'" },
      { { "run", "bad.lua" }, "bad.lua:1:" },
      { { "status", "--wat" }, "unknown option '%-%-wat'" },
      { { "show", "ffff" }, "no run 'ffff'" },
      { { "-C", "/", "runs" }, "no kiln project in /" },
    } do
      local done = kiln(table.unpack(case[1]))
      assert.equal(64, done.code, table.concat(case[1], " ") .. ": " .. done.err)
      assert.matches(case[2], done.err)
      assert.is_nil(done.err:find("traceback", 1, true))
    end
  end)

  it("shows a failure with its last words, what was undone and the next command", function()
    local done = kiln("run", "app.lua", "broken", "--who", "x")
    assert.equal(3, done.code)
    assert.matches("✗ check%s+it broke", done.err)
    assert.matches("      last words\n", done.err, 1, true)
    assert.matches("↩ make%s+unmade", done.err)
    assert.matches("rolled back: all as before", done.err)
    local id = done.err:match("kiln show (%x+)")
    assert.matches("✓ /~1#1", kiln("show", id).out, 1, true)
    assert.matches("✗ check", kiln("log", id).out, 1, true)
  end)

  it("names file and line of a fault in the recipe, with status 1", function()
    local done = kiln("run", "app.lua", "faulty", "--who", "x")
    assert.equal(1, done.code)
    assert.matches("failed: app.lua:%d+: attempt to index a nil value", done.err)
  end)

  it("gives events as lines of JSON", function()
    local done = kiln("run", "app.lua", "--who", "you", "--json")
    local types = {}
    for line in done.out:gmatch("[^\n]+") do types[#types + 1] = assert(json.decode(line)).type end
    assert.equal("run.start", types[1])
    assert.equal("run.end", types[#types])
    assert.equal("", done.err)
  end)

  it("stops resumable at a signal, and resumes", function()
    local child <close> = assert(proc.start(options { "run", "app.lua", "slow", "--who", "x" }))
    local deadline = timer.now() + 10
    while not fs.stat(dir .. "/waiting") and timer.now() < deadline do timer.sleep(0.02) end
    child:kill "INT"
    local done = assert(child:wait())
    assert.equal(4, done.code, done.err)
    local id = done.err:match("go on: kiln resume (%x+)")
    assert.matches("stopped", kiln("runs").out)
    assert(fs.write(dir .. "/go", ""))
    assert.equal(0, kiln("resume", id).code)
    local again = kiln("resume", id)
    assert.equal(64, again.code)
    assert.matches("has ended already", again.err)
  end)

  it("explains itself, a command and a recipe", function()
    assert.matches("rollback", kiln("--help").out)
    assert.matches("--on-error", kiln("run", "--help").out, 1, true)
    local help = kiln("run", "app.lua", "--help").out
    assert.matches("deploy%s+Greets somebody%.", help)
    assert.matches("--who%s+whom to greet %(required%)", help)
    assert.matches("kiln", kiln("completion", "bash").out)
  end)
end)
