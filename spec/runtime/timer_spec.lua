local http = require "kiln.http"
local httpd = require "kiln.httpd"
local proc = require "rt.proc"
local rt_http = require "rt.http"
local task = require "rt.task"
local timer = require "rt.timer"
local least = require "spec.support.least"
local virtual = require "spec.support.virtual"

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

describe("a meter", function()
  it("tells the longest turn of the loop in CPU time, not what was slept", function()
    local meter <close> = timer.meter()
    for _ = 1, 5 do timer.sleep(0.02) end
    local idle, turns = meter:longest()
    assert.is_true(idle < 0.02)
    assert.is_true(turns >= 5)
    local until_ = os.clock() + 0.05
    repeat local busy = ("x"):rep(1000):reverse() until #busy == 0 or os.clock() > until_
    timer.sleep(0.001)
    assert.is_true(meter:longest() >= 0.045)
    meter:close()
    meter:close()
    assert.has_error(function() meter:longest() end)
  end)

  it("sees that a crowd of ready tasks does not hold the loop", function()
    local longest = least(0.1, function() -- all of them take 0.2 s
      local meter <close> = timer.meter()
      local tasks = {}
      local other = task.spawn(timer.sleep, 0.05) -- what the loop serves meanwhile
      timer.sleep(0.001)
      for index = 1, 200 do
        tasks[index] = task.spawn(function()
          local until_ = os.clock() + 0.001
          repeat local busy = ("x"):rep(1000):reverse() until #busy == 0 or os.clock() > until_
        end)
      end
      for _, one in ipairs(tasks) do one:join() end
      other:join()
      return meter:longest()
    end)
    assert.is_true(longest < 0.1, longest)
  end)
end)

describe("virtual time", function()
  it("passes hours in an instant, in the order in which sleeps are due", function()
    local order, real = {}, os.clock()
    do
      local _ <close> = virtual(1780000000)
      local tasks, began = {}, timer.now()
      for _, hours in ipairs { 3, 1, 2, 1 } do
        tasks[#tasks + 1] = task.spawn(function()
          timer.sleep(hours * 3600)
          order[#order + 1] = ("%d at %d"):format(hours, timer.time() - 1780000000)
        end)
      end
      for _, one in ipairs(tasks) do one:join() end
      assert.is_true(math.abs(timer.now() - began - 3 * 3600) < 1e-6)
    end
    assert.same({ "1 at 3600", "1 at 3600", "2 at 7200", "3 at 10800" }, order)
    assert.is_true(os.clock() - real < 5)
    assert.is_true(math.abs(timer.time() - os.time()) < 2)
  end)

  it("stands still while something really happens", function()
    local _ <close> = virtual()
    local before, woke = timer.now(), nil
    local sleeper = task.spawn(function() timer.sleep(0.001); woke = timer.now() - before end)
    assert.equal("x\n", assert(proc.run { argv = { "sh", "-c", "sleep 0.2; echo x" } }).out)
    assert.is_nil(woke)
    assert.equal(before, timer.now())
    sleeper:join()
    assert.is_true(math.abs(woke - 0.001) < 1e-6)
  end)

  it("does not wait for a server of its own, and answers it first", function()
    local _ <close> = virtual()
    local server <close> = httpd.serve { handler = function() return { body = "yes" } end }
    timer.sleep(86400)
    assert.equal("yes", http.get(server.url).body)
    timer.sleep(1)
    rt_http.forget()
  end)

  it("cancels a sleep, and wakes what still sleeps when it ends", function()
    local woken
    timer.virtual()
    local one = task.spawn(function() timer.sleep(10) end)
    local two = task.spawn(function() timer.sleep(20); woken = true end)
    timer.sleep(1)
    one:cancel()
    local ended_well = one:join()
    timer.real()
    two:join()
    assert.is_false(ended_well)
    assert.is_true(woken)
  end)

  it("still finds that every task waits for ever", function()
    local _ <close> = virtual()
    local stuck
    stuck = task.spawn(function() return stuck:join() end)
    local ok, err = pcall(stuck.join, stuck)
    stuck:cancel()
    stuck:join()
    assert.is_false(ok)
    assert.equal("deadlock", err.kind)
  end)

  it("is not begun twice", function()
    local _ <close> = virtual()
    assert.has_error(function() timer.virtual() end)
  end)
end)
