local timer = require "rt.timer"
local error_ = require "kiln.error"
local retry = require "kiln.retry"
local scope = require "kiln.scope"
local virtual = require "spec.support.virtual"

---Fails so many times, then gives the attempt's number.
local function failing(times, kind)
  return function(attempt)
    if attempt <= times then error_.raise { kind = kind or "unreachable", message = "not yet" } end
    return attempt
  end
end

local function raises(call, ...)
  local ok, err = pcall(call, ...)
  assert.is_false(ok)
  return err
end

describe("kiln.retry", function()
  it("returns what the first success returns", function()
    assert.equal(1, retry.call(failing(0)))
    assert.equal(4, retry.call(failing(3), { pause = 0.001 }))
  end)

  it("raises an error of another kind at once", function()
    local err = raises(retry.call, failing(9, "denied"), { pause = 0.001 })
    assert.equal("denied", err.kind)
    assert.equal(1, err.attempts)
    assert.equal("not yet", err.message)
  end)

  it("tries again the kinds that it is told", function()
    assert.equal(3, retry.call(failing(2, "locked"), { kinds = { "locked" }, pause = 0.001 }))
  end)

  it("gives up after the attempts, with the last error and what was tried", function()
    local err = raises(retry.call, failing(9), { attempts = 3, pause = 0.001, what = "list" })
    assert.equal("unreachable", err.kind)
    assert.equal(3, err.attempts)
    assert.matches("^list: not yet %(3 attempts in ", err.message)
  end)

  it("gives up at its deadline, without a pause that would pass it", function()
    local _ <close> = virtual()
    local started = timer.now()
    local err = raises(retry.call, failing(99), { within = 0.2, pause = 0.05, longest = 30 })
    assert.equal("unreachable", err.kind)
    assert.is_true(timer.now() - started <= 0.2)
    assert.is_true(err.attempts >= 2)
  end)

  it("lets pauses grow up to the longest", function()
    local pauses = {}
    retry.call(failing(4), {
      pause = 0.01, factor = 2, longest = 0.03,
      after = function(_, attempt, pause) pauses[attempt] = pause end,
    })
    assert.same({ 0.01, 0.02, 0.03, 0.03 }, pauses)
  end)

  it("waits as long as the error says", function()
    local pauses = {}
    retry.call(function(attempt)
      if attempt == 1 then
        error_.raise { kind = "unreachable", message = "busy", retry_after = 0.05 }
      end
    end, { pause = 0.001, after = function(_, _, pause) pauses[#pauses + 1] = pause end })
    assert.same({ 0.05 }, pauses)
  end)

  it("tells the body how much time is left", function()
    local left
    retry.call(function(_, seconds) left = seconds end, { within = 7 })
    assert.is_true(left > 6.5 and left <= 7)
  end)

  it("ends when it is cancelled", function()
    local err = raises(scope.within, 0.05, function()
      retry.call(failing(99), { pause = 10, within = 60 })
    end)
    assert.equal("timeout", err.kind)
  end)

  it("refuses an unknown option", function()
    assert.equal("usage", raises(retry.call, failing(0), { atempts = 3 }).kind)
  end)
end)
