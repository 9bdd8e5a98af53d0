local task = require "rt.task"
local timer = require "rt.timer"

describe("rt.task", function()
  it("gives the results of a task to who joins it, as often as asked", function()
    local child = task.spawn(function(...) return ... end, 1, nil, 3)
    assert.same({ n = 4, true, 1, nil, 3 }, table.pack(child:join()))
    assert.same({ n = 4, true, 1, nil, 3 }, table.pack(child:join()))
  end)

  it("gives an error as a table with kind, message and traceback", function()
    local ok, err = task.spawn(function() error("boom", 0) end):join()
    assert.is_false(ok)
    assert.equal("error", err.kind)
    assert.equal("boom", err.message)
    assert.matches("task_spec.lua", err.traceback, 1, true)
  end)

  it("keeps the fields of an error that is a table", function()
    local _, err = task.spawn(function() error({ kind = "exit", code = 3 }) end):join()
    assert.equal("exit", err.kind)
    assert.equal(3, err.code)
  end)

  it("wakes a waiting task with a cancelled error, and its cleanup may wait", function()
    local cleaned = false
    local child = task.spawn(function()
      local _ <close> = setmetatable({}, { __close = function()
        timer.sleep(0.01)
        cleaned = true
      end })
      timer.sleep(100)
    end)
    timer.sleep(0)
    child:cancel()
    local ok, err = child:join()
    assert.is_false(ok)
    assert.equal("cancelled", err.kind)
    assert.is_true(cleaned)
  end)

  it("delivers a cancel that comes before the first wait at that wait", function()
    local reached = false
    local child = task.spawn(function()
      reached = true
      timer.sleep(100)
    end)
    child:cancel { kind = "stopped", message = "enough" }
    local ok, err = child:join()
    assert.is_false(ok)
    assert.is_true(reached)
    assert.equal("stopped", err.kind)
  end)

  it("delivers a result that was there before the cancel", function()
    local got
    local inner = task.spawn(function() return "kept" end)
    local child = task.spawn(function()
      got = select(2, inner:join())
      timer.sleep(100)
    end)
    timer.sleep(0)
    child:cancel()
    child:join()
    assert.equal("kept", got)
  end)

  it("refuses to wait in a coroutine that is not a task", function()
    local ok, err = pcall(coroutine.wrap(function() timer.sleep(0) end))
    assert.is_false(ok)
    assert.matches("cannot wait here", err)
  end)

  it("refuses to yield outside a coroutine of its own, and the task goes on", function()
    local ok, caught, after = task.spawn(function()
      local _, err = pcall(coroutine.yield)
      timer.sleep(0)
      return err, "went on"
    end):join()
    assert.is_true(ok)
    assert.matches("coroutine.yield outside a coroutine of your own", caught)
    assert.equal("went on", after)
  end)

  it("joins a task from many others", function()
    local one = task.spawn(function() timer.sleep(0.01); return 42 end)
    local all = {}
    for i = 1, 20 do all[i] = task.spawn(function() return select(2, one:join()) end) end
    for i = 1, 20 do assert.equal(42, select(2, all[i]:join())) end
  end)

  it("keeps a table of its own for every task", function()
    task.locals().mark = "outer"
    local inner = task.spawn(function() return task.locals().mark end)
    assert.is_nil((select(2, inner:join())))
    assert.equal("outer", task.locals().mark)
    task.locals().mark = nil
  end)
end)
