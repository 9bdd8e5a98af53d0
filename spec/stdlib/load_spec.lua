local http = require "rt.http"
local load = require "kiln.load"
local timer = require "rt.timer"
local web = require "spec.support.web"

local function sum(answers)
  local total = 0
  for _, answer in pairs(answers) do total = total + answer.count end
  return total
end

describe("kiln.load", function()
  it("counts answers by version, over new and kept connections", function()
    local version = "v1"
    local site <close> = web.start(function()
      return { body = ('{"version":"%s"}'):format(version) }
    end)
    local traffic <close> = load.start {
      url = site.url, at_once = 4, rate = 300,
    }
    while not traffic:report().versions.v1 do timer.sleep(0.01) end
    version = "v2"
    while (traffic:report().versions.v2 or 0) < 20 do timer.sleep(0.01) end
    local report = traffic:stop()
    assert.equal(0, report.failed)
    assert.equal(report.answers.v1.count, report.versions.v1)
    assert.equal(#site.seen, report.requests)
    assert.equal(report.requests, sum(report.answers))
    assert.is_true(report.answers.v1.first < report.answers.v2.first)
    assert.is_true(report.answers.v1.last <= report.answers.v2.last)
    local latency = report.latency
    assert.is_true(0 < latency.p50 and latency.p50 <= latency.p99 and latency.p99 <= latency.max)
    assert.matches("^%d+ requests in %d+.%d s .* 0 failed, p50 ", load.lines(report)[1])
  end)

  it("keeps to its rate, and lets others run", function()
    local site <close> = web.start(function() return {} end)
    local traffic <close> = load.start { url = site.url, at_once = 8, rate = 100 }
    local turns = 0
    local before = timer.now()
    while timer.now() - before < 0.5 do
      timer.sleep(0.005)
      turns = turns + 1
    end
    local report = traffic:stop()
    assert.is_true(report.requests >= 5 and report.requests <= 60, report.requests .. " requests")
    assert.is_true(turns > 3, turns .. " turns")
  end)

  it("runs while a function does, and gives what that gave", function()
    local site <close> = web.start(function() return { headers = { ["X-Version"] = "v7" } } end)
    local report, a, b = load.during({ url = site.url, rate = 200 }, function()
      while #site.seen < 4 do timer.sleep(0.01) end
      return nil, "b"
    end)
    assert.same({ nil, "b" }, { a, b })
    assert.is_true(report.versions.v7 > 2)
    assert.same({ 0, 0 }, { report.failed, report.resent })
  end)

  it("keeps the first failures with their times", function()
    local site <close> = web.start(function(_, count)
      if count == 2 then return false end
      return { status = count > 3 and 500 or 200, body = "broken" }
    end)
    local traffic <close> = load.start { url = site.url, at_once = 1, fresh = true }
    while traffic:report().failed < 11 do timer.sleep(0.01) end
    local report = traffic:stop()
    assert.equal(10, #report.failures)
    assert.matches("Empty reply", report.failures[1].message)
    assert.equal(report.failures[1].message, report.first_failure)
    assert.equal("500 broken", report.failures[2].message)
    assert.is_true(report.failures[1].fresh)
    assert.is_true(report.failures[1].at <= report.failures[10].at)
    assert.equal(2, report.answers["200"].count)
  end)

  it("does not spin when nobody answers", function()
    local traffic <close> = load.start { url = "http://127.0.0.1:1/", at_once = 2 }
    timer.sleep(0.2)
    local report = traffic:stop()
    assert.equal(report.requests, report.failed)
    assert.is_true(report.requests >= 2 and report.requests < 40)
    http.forget()
  end)

  it("ends with its block, also by an error, without waiting for answers", function()
    local site <close> = web.start(function() timer.sleep(2); return {} end)
    local before = timer.now()
    pcall(function()
      local _ <close> = load.start { url = site.url }
      timer.sleep(0.05)
      error("elsewhere")
    end)
    assert.is_true(timer.now() - before < 1.5)
    timer.sleep(2.1) -- the server's tasks
  end)

  it("raises what classifying raised", function()
    local site <close> = web.start(function() return {} end)
    local traffic = load.start { url = site.url, classify = function() error("no class", 0) end }
    timer.sleep(0.05)
    local ok, err = pcall(traffic.stop, traffic)
    assert.is_false(ok)
    assert.equal("no class", err.message)
  end)

  it("raises for wrong options", function()
    assert.has_error(function() load.start { url = "http://h/", at_one = 1 } end)
    assert.has_error(function() load.start { url = "http://h/", at_once = 0 } end)
    assert.has_error(function() load.start { url = "http://h/", rate = 1e9 } end)
    assert.has_error(function() load.start {} end)
  end)
end)
