local task = require "rt.task"
local timer = require "rt.timer"

describe("rt.timer", function()
  it("sleeps about as long as told", function()
    local before = timer.now()
    timer.sleep(0.03)
    local slept = timer.now() - before
    assert.is_true(slept >= 0.029, "slept only " .. slept)
  end)

  it("lets other tasks run meanwhile", function()
    local order = {}
    local slow = task.spawn(function() timer.sleep(0.04); order[#order + 1] = "slow" end)
    local fast = task.spawn(function() timer.sleep(0.01); order[#order + 1] = "fast" end)
    slow:join()
    fast:join()
    assert.same({ "fast", "slow" }, order)
  end)

  it("refuses a negative time", function()
    assert.has_error(function() timer.sleep(-1) end)
  end)

  it("tells the time of day", function()
    assert.is_true(math.abs(timer.time() - os.time()) < 2)
  end)
end)
