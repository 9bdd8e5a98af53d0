local error_ = require "kiln.error"
local scope = require "kiln.scope"
local ticker = require "kiln.ticker"
local timer = require "rt.timer"
local virtual = require "spec.support.virtual"

---A world in which a thing is there from its time on.
local function world(times)
  local started, looks = timer.now(), 0
  local function fetch()
    looks = looks + 1
    timer.sleep(0.02)
    local there = {}
    for name, after in pairs(times) do there[name] = timer.now() - started >= after or nil end
    return there
  end
  return fetch, function() return looks end
end

local function see(name)
  return function(view) return view[name] and name or nil end
end

describe("kiln.ticker", function()
  it("shares one look a tick, however many wait", function()
    local times, names = {}, {}
    for index = 1, 50 do
      names[index] = "m" .. index
      times[names[index]] = 0.3
    end
    local fetch, looks = world(times)
    local shared = ticker.new(fetch, { grid = 0.1 })
    local found = scope.all(names, function(name)
      return shared:wait { what = name, seen = see(name), expected = 0.3, within = 30 }
    end)
    assert.same(names, found)
    assert.is_true(looks() >= 2 and looks() <= 30, looks() .. " looks")
  end)

  it("looks often from three fifths of the usual time on, and rarely before", function()
    local _ <close> = virtual()
    local fetch, looks = world { early = 150 }
    local started = timer.now()
    ticker.new(fetch, { grid = 1 }):wait { what = "early", seen = see "early", expected = 240,
      within = 600 }
    local took = timer.now() - started
    assert.is_true(took < 152, ("seen after %.2f s"):format(took))
    assert.is_true(looks() < 15, looks() .. " looks")
  end)

  it("raises timeout and names what was waited for", function()
    local shared = ticker.new(function() return {} end, { grid = 0.02 })
    local ok, err = pcall(shared.wait, shared,
      { what = "droplet app", seen = see "app", expected = 0.05, within = 0.1 })
    assert.is_false(ok)
    assert.is_true(error_.is(err, "timeout"))
    assert.truthy(err.message:find("droplet app", 1, true))
  end)

  it("gives a look's error to all who wait for it, and looks again for the next", function()
    local broken = true
    local shared = ticker.new(function()
      if broken then error_.raise { kind = "auth", message = "refused" } end
      return { a = true }
    end, { grid = 0.02 })
    local results = scope.all({ 1, 2, 3 }, function()
      local _, err = pcall(shared.wait, shared, { what = "a", seen = see "a" })
      return err.kind
    end)
    assert.same({ "auth", "auth", "auth" }, results)
    broken = false
    assert.equal("a", shared:wait { what = "a", seen = see "a" })
  end)

  it("goes on for the others when one that waits is cancelled", function()
    local fetch = world { late = 0.4 }
    local shared = ticker.new(fetch, { grid = 0.05 })
    local winner = scope.race {
      function() return shared:wait { what = "never", seen = see "never", within = 30 } end,
      function() return shared:wait { what = "late", seen = see "late", within = 30 } end,
    }
    assert.equal("late", winner)
  end)

  it("keeps looks as far apart as the rate limit asks", function()
    local looks, apart, last = 0, math.huge, nil
    local shared = ticker.new(function()
      looks = looks + 1
      if last then apart = math.min(apart, timer.now() - last) end
      last = timer.now()
      return { done = looks >= 3 or nil }
    end, { grid = 0.01, slower = function() return 0.2 end })
    shared:wait { what = "it", seen = see "done", expected = 0.01, within = 30 }
    assert.is_true(apart >= 0.19, apart)
  end)
end)
