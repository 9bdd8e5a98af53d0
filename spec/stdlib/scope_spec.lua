local scope = require "kiln.scope"
local task = require "rt.task"
local timer = require "rt.timer"

local function failing(kind, after)
  return function()
    timer.sleep(after or 0)
    error({ kind = kind, message = "told to" }, 0)
  end
end

describe("kiln.scope", function()
  it("gives results in the order of the list, not of time", function()
    local results = scope.all({ 0.03, 0.01, 0.02 }, function(seconds)
      timer.sleep(seconds)
      return seconds
    end)
    assert.same({ 0.03, 0.01, 0.02 }, results)
  end)

  it("runs no more than at_once at the same time", function()
    local running, most = 0, 0
    scope.all({ 1, 2, 3, 4, 5, 6, 7 }, function()
      running = running + 1
      most = math.max(most, running)
      timer.sleep(0.005)
      running = running - 1
    end, { at_once = 3 })
    assert.equal(3, most)
  end)

  it("raises the first error after cancelling and ending the others", function()
    local ended = false
    local ok, err = pcall(scope.all, {
      failing("exit", 0.01),
      function()
        local _ <close> = setmetatable({}, { __close = function()
          timer.sleep(0.01)
          ended = true
        end })
        timer.sleep(100)
      end,
    })
    assert.is_false(ok)
    assert.equal("exit", err.kind)
    assert.is_true(ended)
  end)

  it("names tasks by their place, whatever the timing", function()
    local paths = scope.all({ 0.02, 0.001 }, function(seconds)
      timer.sleep(seconds)
      local inner = scope.all { function() return scope.state().path end }
      return inner[1]
    end)
    local base = paths[1]:match("^(.*)/%d+/1$")
    local first = tonumber(paths[1]:match("(%d+)/1$"))
    assert.same({ base .. "/" .. first .. "/1", base .. "/" .. (first + 1) .. "/1" }, paths)
  end)

  it("gives the same paths with at_once as without", function()
    local function relative(list)
      local out = {}
      for i, path in ipairs(list) do out[i] = tonumber(path:match("(%d+)$")) end
      for i = #out, 1, -1 do out[i] = out[i] - out[1] end
      return out
    end
    local function path() timer.sleep(0.001); return scope.state().path end
    local free = scope.all({ 1, 2, 3, 4 }, path)
    local bounded = scope.all({ 1, 2, 3, 4 }, path, { at_once = 2 })
    assert.same(relative(free), relative(bounded))
  end)

  it("lets the first of a race decide and ends the others", function()
    local live = task.live().tasks
    local value, index = scope.race {
      function() timer.sleep(100); return "slow" end,
      function() timer.sleep(0.005); return "fast" end,
    }
    assert.equal("fast", value)
    assert.equal(2, index)
    assert.equal(live, task.live().tasks)
  end)

  it("raises timeout when the time is over, and returns the value before that", function()
    local ok, err = pcall(scope.within, 0.01, function() timer.sleep(100) end, "the probe")
    assert.is_false(ok)
    assert.equal("timeout", err.kind)
    assert.matches("the probe did not end within 0.01 s", err.message)
    assert.equal(7, scope.within(5, function() return 7 end))
  end)

  it("passes a cancel from outside to its children and ends them", function()
    local ended = 0
    local outer = task.spawn(function()
      scope.all({ 1, 2, 3 }, function()
        local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
        timer.sleep(100)
      end)
    end)
    timer.sleep(0.005)
    outer:cancel { kind = "stopped", message = "stop" }
    local ok, err = outer:join()
    assert.is_false(ok)
    assert.equal("stopped", err.kind)
    assert.equal(3, ended)
  end)
end)
