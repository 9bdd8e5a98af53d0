---The standard streams as a shell gives them: closed, full, or read by a program that leaves early.
local fs = require "rt.fs"
local proc = require "rt.proc"
local timer = require "rt.timer"

local exe = assert(fs.realpath("/proc/self/exe"))

local recipe = [[
local op = require "kiln.op"
local app = { name = "app" }

function app.deploy(run)
  run:step { name = "greet", perform = function()
    return op.call { name = "greet", class = "read", perform = function() return 1 end }, "hello"
  end }
  run:note "said"
end

function app.slow(run)
  run:note "begun"
  require("kiln.retry").call(function() error({ kind = "unreachable", message = "not yet" }, 0) end)
end

return app
]]

describe("kiln's standard streams", function()
  local dir

  setup(function()
    dir = assert(fs.temp_dir())
    assert(fs.write(dir .. "/app.lua", recipe))
  end)

  teardown(function() assert(fs.remove(dir, { recursive = true })) end)

  local function shell(text)
    return assert(proc.run {
      argv = { "bash", "-c", text }, cwd = dir, timeout = 30, env = { KILN = exe },
    })
  end

  it("may be closed: kiln works, and no file takes their place", function()
    for _, closed in ipairs { "<&-", "2>&-", "<&- 2>&-" } do
      local done = shell("$KILN run app.lua deploy " .. closed .. " && $KILN runs " .. closed)
      assert.equal(0, done.code, closed .. done.err)
      assert.matches("^said\napp? *", (done.out:gsub("%x%x%x%x   ", "", 1)), closed)
    end
    local state = shell("file -b .kiln/state.db; head -c 15 .kiln/state.db").out
    assert.matches("SQLite format 3", state, 1, true)
  end)

  it("that lose output make the exit status say so", function()
    for _, case in ipairs {
      { "version >&-", "Bad file descriptor" }, { "version >/dev/full", "No space left" },
      { "--help >/dev/full", "No space left" }, { "runs --json >/dev/full", "No space left" },
      { "run app.lua deploy --json >/dev/full", "some of the output is lost" },
    } do
      local done = shell("$KILN run app.lua deploy >/dev/null 2>&1; $KILN " .. case[1])
      assert.equal(1, done.code, case[1])
      assert.matches("cannot write to standard output: " .. case[2], done.err, 1, true)
    end
  end)

  it("keep the status of what failed before", function()
    assert.equal(64, shell("$KILN run nope.lua >/dev/full").code)
  end)

  it("whose reader leaves early end kiln without a word", function()
    -- `true` may leave too late to be missed.
    local done = shell("$KILN --help | true; echo ${PIPESTATUS[0]}")
    assert.is_truthy(done.out == "141\n" or done.out == "0\n", done.out)
    assert.equal("", done.err)
  end)

  it("get a run's log, line by line until it has ended", function()
    local child <close> = assert(proc.start {
      argv = { exe, "run", "app.lua", "slow" }, cwd = dir, timeout = 30,
    })
    local deadline = timer.now() + 20
    local id
    repeat
      timer.sleep(0.05)
      id = shell("$KILN runs 2>/dev/null").out:match("^(%x+) +app +slow")
    until id or timer.now() > deadline
    assert(id, "the run did not begin")
    local follower <close> = assert(proc.start {
      argv = { exe, "log", "-f", id }, cwd = dir, timeout = 30,
    })
    child:kill "INT"
    assert.equal(4, child:wait().code)
    local log = assert(follower:wait())
    assert.equal(0, log.code, log.err)
    assert.matches("^run " .. id .. " · app · slow", log.out)
    assert.matches("\nbegun\n", log.out, 1, true)
    assert.equal("", log.err)
  end)
end)
