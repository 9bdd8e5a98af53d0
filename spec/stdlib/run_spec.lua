local json = require "rt.json"
local task = require "rt.task"
local timer = require "rt.timer"
local recipes = require "spec.support.recipes"
local store = require "kiln.store"

local prelude, three_steps = recipes.prelude, recipes.three_steps

local function with_world(folder) return { world = folder.dir .. "/world" } end

describe("kiln.run", function()
  it("runs an entry and records its end and its result", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", three_steps)
    local outcome = folder:start("app.lua", { args = with_world(folder) })
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    assert.equal(0, outcome.exit)
    assert.same({ "one", "two", "three" }, outcome.result)
    assert.equal("one\ntwo\nthree\n", folder:read("world"))
    local kept <close> = store.open(folder.dir)
    assert.equal("done", kept:run(outcome.run).status)
  end)

  it("records results and errors whose bytes are not UTF-8", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", prelude .. [[
      function app.deploy()
        return op.call { name = "read", class = "read", perform = function() return "\xff\0é" end }
      end
      function app.fail()
        op.call { name = "fail", class = "once", perform = function() error("\xfe", 0) end }
      end
      return app
    ]])
    local outcome = folder:start("app.lua", { entry = "deploy", args = with_world(folder) })
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    assert.equal("\xff\0é", outcome.result)
    outcome = folder:start("app.lua", { entry = "fail", args = with_world(folder) })
    assert.equal("failed", outcome.status)
    assert.matches("\xfe", outcome.error.message, 1, true)
  end)

  it("keeps a result that has a secret in it as a reference, and replays it whole", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", prelude .. [[
      app.secrets = { token = { file = "token.txt" } }
      function app.deploy(run)
        local first = op.call { name = "log in with " .. run.args.world, class = "read",
          args = { token = fs.read(run.dir .. "/token.txt") },
          perform = function()
            return { body = '{"token":"' .. fs.read(run.dir .. "/token.txt") .. '"}' }
          end }
        op.call { name = "stop", class = "read", perform = function()
          if fs.read(run.dir .. "/again") == "" then
            fs.stop "by the spec"
          end
        end }
        fs.touch(run.dir .. "/seen", first.body)
        return first
      end
      return app
    ]])
    folder:write("token.txt", "spec-hunter3/x")
    local outcome = folder:start("app.lua", { args = with_world(folder) })
    assert.equal("stopped", outcome.status, outcome.error and outcome.error.message)
    folder:write("again", "yes")
    outcome = folder:continue("resume", outcome.run)
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    assert.equal('{"token":"spec-hunter3/x"}\n', folder:read("seen"))
    for _, file in ipairs { "state.db", "state.db-wal" } do
      local bytes = require("rt.fs").read(folder.dir .. "/.kiln/" .. file) or ""
      assert.is_nil(bytes:find("hunter3", 1, true), file)
    end
  end)

  it("shows a secret in no event, no error and not in the journal's errors", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", prelude .. [[
      app.secrets = { token = { command = { "printf", "spec-%s", "hunter2/x" } } }
      function app.deploy(run)
        run:secret "token"
        local parts = { "spec-", "hunter2" } -- apart: the journal has the recipe's text
        run:note("token=" .. table.concat(parts) .. "/x")
        op.call { name = "log in", class = "once", perform = function()
          error({ kind = "exit", message = "denied: " .. table.concat(parts) .. "%2Fx",
            output = "c3BlYy1o" .. "dW50ZXIyL3g=" })
        end }
      end
      return app
    ]])
    local outcome = folder:start("app.lua", { args = with_world(folder) })
    assert.equal("denied: <secret>", outcome.error.message)
    local kept <close> = store.open(folder.dir)
    local seen = json.encode(outcome.error.output) .. json.encode(kept:run(outcome.run))
    for _, event in ipairs(folder.events) do seen = seen .. (event.text or "") .. (event.error
      and event.error.message .. event.error.output or "") end
    for _, file in ipairs { "state.db", "state.db-wal" } do
      seen = seen .. (require("rt.fs").read(folder.dir .. "/.kiln/" .. file) or "")
    end
    assert.matches("token=<secret>", seen, 1, true)
    assert.is_nil(seen:find("hunter2%2F", 1, true))
    assert.is_nil(seen:find("spec-hunter2", 1, true))
    assert.is_nil(seen:find("c3BlYy1odW50ZXIy", 1, true))
  end)

  it("stops resumable in the middle, and resumes without doing anything twice that was done",
    function()
      local folder <close> = recipes.folder()
      folder:write("app.lua", three_steps)
      local args = with_world(folder)
      args.wait = 60
      local outcome = folder:start("app.lua", { args = args, started = function(handle)
        task.spawn(function()
          repeat timer.sleep(0.01) until folder:read("world"):find("two")
          handle.stop()
        end)
      end })
      assert.equal("stopped", outcome.status)
      assert.equal(4, outcome.exit)
      assert.equal("one\ntwo\n", folder:read("world"))

      -- The interrupted operation is idempotent: it is done again, the first one is not. The wait
      -- is stored with the arguments, so it is cut off by a second stop.
      local again = folder:continue("resume", outcome.run, { started = function(handle)
        task.spawn(function()
          repeat timer.sleep(0.01) until folder:read("world"):find("two\ntwo")
          handle.stop()
        end)
      end })
      assert.equal("stopped", again.status)
      assert.equal("one\ntwo\ntwo\n", folder:read("world"))
    end)

  it("undoes in reverse when a step fails, and says so with exit 3", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", (three_steps:gsub('touch%(run, "three"%)', 'error("no luck")')))
    local outcome = folder:start("app.lua", { args = with_world(folder) })
    assert.equal("rolled_back", outcome.status)
    assert.equal(3, outcome.exit)
    assert.matches("no luck", outcome.error.message)
    assert.equal("one\ntwo\nundo two\nundo one\n", folder:read("world"))
  end)

  it("aborts a stopped run by undoing what was done", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", three_steps)
    local args = with_world(folder)
    args.wait = 60
    local outcome = folder:start("app.lua", { args = args, started = function(handle)
      task.spawn(function()
        repeat timer.sleep(0.01) until folder:read("world"):find("two")
        handle.stop()
      end)
    end })
    local aborted = folder:continue("abort", outcome.run)
    assert.equal("aborted", aborted.status, aborted.error and aborted.error.message)
    assert.equal("one\ntwo\nundo one\n", folder:read("world"))
    assert.equal("usage", folder:continue("resume", outcome.run).status)
  end)

  it("resumes a run whose process was killed", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", three_steps)
    local args = with_world(folder)
    args.wait = 2
    local pipe = io.popen(folder:spawn("app.lua", args) .. " & echo $!; wait", "r")
    local pid = pipe:read("l")
    repeat timer.sleep(0.02) until folder:read("world"):find("two")
    os.execute("kill -KILL " .. pid)
    pipe:close()
    local kept = store.open(folder.dir)
    local row = kept:runs { limit = 1 }[1]
    local id = row.id
    assert.equal("running", row.status)
    assert.equal("died", kept:state_of(row))
    kept:close()
    local outcome = folder:continue("resume", id)
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    assert.equal("one\ntwo\ntwo\nthree\n", folder:read("world"))
  end)

  it("adopts what an interrupted creation made, by its token", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", prelude .. [[
function app.deploy(run, args)
  return op.call { name = "create", class = "adopt",
    perform = function(token)
      fs.touch(args.world, token)
      fs.sleep(args.wait)
      return token
    end,
    settle = function(token)
      return fs.read(args.world):find(token, 1, true) and token or nil
    end }
end
return app]])
    local args = with_world(folder)
    args.wait = 60
    local outcome = folder:start("app.lua", { args = args, started = function(handle)
      task.spawn(function()
        repeat timer.sleep(0.01) until folder:read("world") ~= ""
        handle.stop()
      end)
    end })
    assert.equal("stopped", outcome.status)
    local resumed = folder:continue("resume", outcome.run)
    assert.equal("done", resumed.status, resumed.error and resumed.error.message)
    assert.equal(resumed.result .. "\n", folder:read("world"))
    assert.matches("^kl%-" .. outcome.run .. "%-%x+$", resumed.result)
  end)

  it("refuses a journal that does not match the recipe's course", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", prelude .. [[
function app.deploy(run, args)
  op.call { name = "step " .. tostring({}), class = "read", perform = function() return 1 end }
  op.call { name = "wait", class = "read", perform = function() fs.touch(args.world, "x")
    fs.sleep(60) end }
end
return app]])
    local outcome = folder:start("app.lua", { args = with_world(folder), started = function(handle)
      task.spawn(function()
        repeat timer.sleep(0.01) until folder:read("world") ~= ""
        handle.stop()
      end)
    end })
    local resumed = folder:continue("resume", outcome.run)
    assert.equal("stopped", resumed.status)
    assert.equal("diverged", resumed.error.kind)
    assert.matches("/#1", resumed.error.message, 1, true)
  end)

  it("gives a resumed run the time, the random numbers and the order that the first one saw",
    function()
      local folder <close> = recipes.folder()
      folder:write("app.lua", prelude .. [[
function app.deploy(run, args)
  local keys = {}
  for key in pairs { b = 1, a = 2, [2] = 3, [1] = 4, c = 5 } do keys[#keys + 1] = tostring(key) end
  local seen = table.concat({ os.time(), math.random(1000000), table.concat(keys) }, " ")
  op.call { name = "note", class = "idempotent", args = { seen = seen }, perform = function()
    fs.touch(args.world, seen)
  end }
  op.call { name = "wait", class = "read", perform = function() fs.sleep(60) end }
end
return app]])
      local outcome = folder:start("app.lua", { args = with_world(folder),
        started = function(handle)
          task.spawn(function()
            repeat timer.sleep(0.01) until folder:read("world") ~= ""
            timer.sleep(1.1)
            handle.stop()
          end)
        end })
      assert.matches(" 12abc\n$", folder:read("world"))
      local again = folder:continue("resume", outcome.run, { started = function(handle)
        task.spawn(function() timer.sleep(0.1); handle.stop() end)
      end })
      assert.equal("stopped", again.status, again.error and again.error.message)
    end)

  it("gives recipes no way around the journal", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", [[
local app = {}
function app.deploy()
  return { os.execute == nil, io == nil, debug == nil, package == nil, dofile == nil,
    loadfile == nil, string.dump == nil, collectgarbage == nil, (load("\27Lua")) == nil }
end
return app]])
    local outcome = folder:start("app.lua")
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    for index, absent in ipairs(outcome.result) do assert.is_true(absent, index) end
  end)

  local bad = {
    { "a syntax error", "local x = = 1\n", "app.lua:1:" },
    { "a file that returns nothing", "local x = 1\n", "returns a table" },
    { "an error while loading", "local a = nil\nreturn a.b\n", "app.lua:2:" },
    { "a require of the runtime", 'require "rt.fs"', "cannot require 'rt.fs'" },
    { "a module that is not there", 'require "nowhere"', "nowhere.lua beside the recipe" },
    { "an entry that is not there", "return { deploy = function() end }", "no entry 'bake'",
      "bake" },
    { "several entries and none named", "return { a = function() end, b = function() end }",
      "name one: a, b" },
    { "a missing argument", 'return { args = { v = { "release", required = true } },\n'
      .. "deploy = function() end }", "needs --v (release)" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1] .. " with one clear message and exit 64", function()
      local folder <close> = recipes.folder()
      folder:write("app.lua", case[2])
      local outcome = folder:start("app.lua", { entry = case[4] })
      assert.equal("usage", outcome.status)
      assert.equal(64, outcome.exit)
      assert.matches(case[3], outcome.error.message, 1, true)
    end)
  end

  it("refuses arguments that the recipe does not declare", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", 'return { args = { v = { "x", choices = { "a", "b" } } },\n'
      .. "deploy = function() end }")
    assert.matches("takes no argument 'w'; it takes: v",
      folder:start("app.lua", { args = { w = "1" } }).error.message, 1, true)
    assert.matches("it can be: a, b",
      folder:start("app.lua", { args = { v = "c" } }).error.message, 1, true)
  end)

  it("emits events that are JSON, in order", function()
    local folder <close> = recipes.folder()
    folder:write("app.lua", three_steps)
    folder:start("app.lua", { args = with_world(folder) })
    local types = {}
    for index, event in ipairs(folder.events) do
      assert.equal(1, event.v)
      assert.is_string(json.encode(event))
      types[index] = event.type
    end
    assert.same({ "run.start", "op.start", "op.done", "op.start", "op.done", "op.start", "op.done",
      "run.end" }, types)
  end)
end)
