local task = require "rt.task"
local timer = require "rt.timer"
local scope = require "kiln.scope"
local recipes = require "spec.support.recipes"

---Runs the body of an entry, with `world` as the file it may touch.
local function run_entry(body, opts)
  local folder <close> = recipes.folder()
  folder:write("app.lua", recipes.prelude .. [[
    local scope = require "kiln.scope"
    local function touch(name, seconds)
      return op.call { name = name, class = "idempotent", perform = function()
        if seconds then fs.sleep(seconds) end
        return name
      end }
    end
    function app.deploy(run) ]] .. body .. [[ end
    return app
  ]])
  opts = opts or {}
  opts.args = { world = folder.dir .. "/world" }
  return folder:start("app.lua", opts)
end

describe("the thread of a task", function()
  it("is not what coroutine.running returns: a token is, the same one each time", function()
    local outcome = run_entry [[
      local token, main = coroutine.running()
      touch("one")
      local again = coroutine.running()
      local inside
      local co = coroutine.create(function() inside = coroutine.running() end)
      coroutine.resume(co)
      local others = scope.all({ 1, 2 }, function() return (coroutine.running()) end)
      return { type(token), main, token == again, inside == co, others[1] ~= others[2] }
    ]]
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    assert.same({ "userdata", true, true, true, true }, outcome.result)
  end)

  it("cannot be resumed, closed, asked or wrapped", function()
    local outcome = run_entry [[
      local token = coroutine.running()
      local seen = {}
      for _, name in ipairs { "resume", "close", "status", "wrap" } do
        seen[#seen + 1] = tostring((pcall(coroutine[name], token)))
      end
      seen[#seen + 1] = tostring(coroutine.isyieldable())
      return table.concat(seen, " ")
    ]]
    assert.equal("false false false false false", outcome.result)
  end)

  it("is refused where a debugger hands it out", function()
    local thread
    local waits = task.spawn(function()
      thread = debug.getinfo(1, "f") and select(2, pcall(debug.traceback)) and coroutine.running()
      timer.sleep(0.01)
      return "whole"
    end)
    timer.sleep(0)
    assert.equal("userdata", type(thread))
    assert.same({ true, "whole" }, { waits:join() })
  end)

  it("does not wait in a coroutine of the recipe's own: an error, not a loop", function()
    for _, call in ipairs {
      "scope.all { function() touch 'a' end }", "scope.race { function() touch 'a' end }",
      "scope.within(1, function() touch 'a' end)", "touch('a', 0)",
    } do
      local outcome = run_entry(("coroutine.wrap(function() %s end)()"):format(call))
      assert.equal(1, outcome.exit, call)
      assert.matches("cannot wait here: not in a task of kiln", outcome.error.message, 1, true)
    end
  end)

  it("has coroutines as Lua's own: values both ways, errors, closing, states", function()
    local outcome = run_entry [[
      local log = {}
      local function note(...) log[#log + 1] = table.concat({ ... }, ",") end
      local co = coroutine.create(function(a, b)
        local c = coroutine.yield(a + b)
        local kept <close> = setmetatable({}, { __close = function() note "closed" end })
        coroutine.yield(c)
      end)
      note(tostring(select(2, coroutine.resume(co, 1, 2))), coroutine.status(co))
      note(tostring(select(2, coroutine.resume(co, "x"))))
      note(tostring(coroutine.close(co)), coroutine.status(co))
      note(tostring(select(2, coroutine.resume(co))))
      local wrapped = coroutine.wrap(function() coroutine.yield(7) error({ 1 }, 0) end)
      note(tostring(wrapped()), type(select(2, pcall(wrapped))))
      note(tostring(select(2, pcall(wrapped))))
      return table.concat(log, " ")
    ]]
    assert.equal("done", outcome.status, outcome.error and outcome.error.message)
    assert.matches("^3,suspended x closed true,dead cannot resume dead coroutine 7,table ",
      outcome.result)
  end)

  it("ends with an error when coroutines are closed inside each other without end", function()
    local outcome = run_entry [[
      local function chain(depth)
        local co = coroutine.create(function()
          local inner <close> = setmetatable({}, { __close = function()
            if depth < 30000 then coroutine.close(chain(depth + 1)) end
          end })
          coroutine.yield()
        end)
        coroutine.resume(co)
        return co
      end
      return coroutine.close(chain(0))
    ]]
    assert.is_true(outcome.exit == 0 or outcome.exit == 1)
  end)
end)

describe("an error of a recipe's own", function()
  it("does not steer the run by its kind", function()
    for _, kind in ipairs { "stopped", "memory", "cancelled", "diverged", "fenced", "store" } do
      for _, how in ipairs { "error(%s, 0)", "error(%s)", "assert(false, %s)" } do
        local outcome = run_entry(how:format(("{ kind = %q, message = 'mine' }"):format(kind)))
        assert.equal(1, outcome.exit, kind)
        assert.equal("error", outcome.error.kind)
        assert.matches("mine", outcome.error.message)
      end
    end
  end)

  it("does not steer it from a task of a block either", function()
    for _, kind in ipairs { "stopped", "memory", "cancelled" } do
      local outcome = run_entry(([[
        scope.all { function() touch("slow", 5) end,
          function() touch "a" error({ kind = %q, message = "mine" }, 0) end }
      ]]):format(kind))
      assert.equal("error", outcome.error.kind)
      assert.matches("mine", outcome.error.message)
    end
  end)

  it("does not carry kiln's notes: undone, abort, replayed", function()
    local outcome = run_entry [[
      touch "a"
      error({ kind = "exit", message = "mine", undone = true, abort = true, replayed = true }, 0)
    ]]
    assert.equal("failed", outcome.status)
    outcome = run_entry [[error({ kind = "auth", cloud = "none", message = "mine" }, 0)]]
    assert.equal("failed", outcome.status)
  end)

  it("may say 'not enough memory': that is a text, not the end of the run", function()
    for _, body in ipairs {
      [[error("not enough memory", 0)]],
      [[scope.all { function() error("not enough memory", 0) end, function() touch "b" end }]],
      [[scope.race { function() error("not enough memory", 0) end, function() touch("b", 1) end }]],
    } do
      local outcome = run_entry(body)
      assert.equal("failed", outcome.status, body)
      assert.equal("error", outcome.error.kind)
    end
  end)

  it("keeps the kind that kiln gave it, whatever a handler writes into it", function()
    local outcome = run_entry [[
      local ok, err = pcall(scope.within, 0.01, function() touch("slow", 5) end)
      err.kind = "stopped"
      error(err, 0)
    ]]
    assert.equal("timeout", outcome.error.kind)
  end)

  it("of scope.all is known to be of a block that was really cancelled", function()
    local ok, err = pcall(scope.all, {
      function() timer.sleep(5) end, function() error({ kind = "mine", message = "x" }, 0) end,
    })
    assert.is_false(ok)
    assert.equal("mine", err.kind)
  end)
end)
