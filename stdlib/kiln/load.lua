---Load: steady requests to a service while something else happens to it, and what became of them.
---
---```lua
---local report = load.during({ url = url }, function() deploy() end)
---```
local rt_http = require "rt.http"
local task = require "rt.task"
local timer = require "rt.timer"
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local http = require "kiln.http"
local scope = require "kiln.scope"

local load = {}

---@class kiln.load.Options
---@field url string
---@field at_once? integer requests at the same time, 1 to 256 (8)
---@field rate? number requests a second at most (1000; 400 with `fresh`), up to 10000
---@field fresh? boolean a new connection for each request, or for none (for one in five)
---@field classify? fun(response: rt.http.Response): string? what an answer is counted under (its
---  version, as `http.version` finds it; an answer without one under its status)
---@field expect? fun(response: rt.http.Response): boolean whether it is good (status 200 to 399)
---@field timeout? number seconds for one request (5)
---@field method? string ("GET")
---@field headers? table<string, string|userdata>
---@field proxy? boolean through the environment's proxy (false)

---@class kiln.load.Report
---@field seconds number
---@field requests integer
---@field rate number a second
---@field failed integer requests without a good answer
---@field failures { at: number, fresh: boolean, message: string }[] the first ten; `at` in seconds
---  from the start
---@field first_failure? string
---@field resent integer requests sent again by the client, on another connection, when the server
---  had ended a kept one (RFC 9112, section 9.3.1)
---@field answers table<string, { count: integer, first: number, last: number }> by what `classify`
---  gave; seconds from the start
---@field versions table<string, integer> the counts of `answers`
---@field latency { p50: number, p99: number, max: number } seconds; percentiles to within 5 %

---@class kiln.load.Traffic
---@field opts kiln.load.Options
---@field stopping boolean
local Traffic = {}
Traffic.__index = Traffic

local known = {
  url = true, at_once = true, rate = true, fresh = true, classify = true, expect = true,
  timeout = true, method = true, headers = true, proxy = true,
}

local FRESH_EVERY = 5
local FAILURES_KEPT = 10
---Ports that closed connections hold for a minute bound the new ones: 28 000 on Linux.
local FRESH_RATE = 400
local PAUSE = 0.02 -- after a failure: a refused connection costs nothing, so it would spin

---Latencies as counts by size, each class 5 % above the one before: a fixed amount of memory.
local SMALLEST, STEP = 1e-5, math.log(1.05)

local function class_of(seconds)
  return math.max(0, math.ceil(math.log(math.max(seconds, SMALLEST) / SMALLEST) / STEP))
end

local function percentile(classes, total, share)
  local wanted, seen = math.max(1, math.ceil(total * share)), 0
  local sorted = {}
  for class in pairs(classes) do sorted[#sorted + 1] = class end
  table.sort(sorted)
  for _, class in ipairs(sorted) do
    seen = seen + classes[class]
    if seen >= wanted then return SMALLEST * math.exp(class * STEP) end
  end
  return 0
end

local function is_good(opts, response)
  if opts.expect then return opts.expect(response) end
  return response.status >= 200 and response.status < 400
end

local function count_failure(self, at, fresh, message)
  self.failed = self.failed + 1
  if #self.failures < FAILURES_KEPT then
    table.insert(self.failures, { at = at, fresh = fresh, message = message })
  end
end

---Counts an answer, or none; returns whether it was good.
local function count(self, response, err, at, fresh)
  local now = timer.now() - self.started
  local took = now - at
  local class = class_of(took)
  self.requests = self.requests + 1
  self.classes[class] = (self.classes[class] or 0) + 1
  self.max = math.max(self.max, took)
  if not response then
    count_failure(self, at, fresh, err.message)
    return false
  end
  local key = (self.opts.classify or http.version)(response) or tostring(response.status)
  self.resent = self.resent + response.resent
  local answer = self.answers[key] or { count = 0, first = now }
  answer.count = answer.count + 1
  answer.last = now
  self.answers[key] = answer
  if not is_good(self.opts, response) then
    count_failure(self, at, fresh, response.status .. " " .. http.excerpt(response.body))
    return false
  end
  return true
end

---Waits for this request's turn; turns are `1 / rate` apart, and missed ones are not made up for.
local function wait_turn(self)
  local now = timer.now()
  local turn = math.max(self.next_turn, now)
  self.next_turn = turn + 1 / self.rate
  timer.sleep(math.max(0, turn - now))
end

local function work(self)
  local opts = self.opts
  while true do
    wait_turn(self)
    if self.stopping then return end
    self.sent = self.sent + 1
    local fresh = opts.fresh
    if fresh == nil then fresh = self.sent % FRESH_EVERY == 0 end
    local at = timer.now() - self.started
    local response, err = rt_http.request {
      url = opts.url, method = opts.method, headers = opts.headers, timeout = opts.timeout or 5,
      max_body = 1024 * 1024, fresh_connection = fresh, direct = not opts.proxy,
    }
    if not count(self, response, err, at, fresh) then timer.sleep(PAUSE) end
  end
end

local function check_options(opts)
  for name in pairs(opts) do
    if not known[name] then error(("unknown option '%s'"):format(tostring(name)), 3) end
  end
  if type(opts.url) ~= "string" then error("option 'url' is missing", 3) end
  local at_once, rate = opts.at_once or 8, opts.rate or 1
  if math.type(at_once) ~= "integer" or at_once < 1 or at_once > 256 then
    error("option 'at_once' must be from 1 to 256", 3)
  end
  if not (rate > 0 and rate <= 10000) then error("option 'rate' must be from 0 to 10000", 3) end
end

---Starts requests, until `stop` or the end of the block that the traffic is `<close>` in.
---@param opts kiln.load.Options
---@return kiln.load.Traffic traffic
function load.start(opts)
  check_options(opts)
  local self = setmetatable({
    opts = opts, rate = opts.rate or (opts.fresh and FRESH_RATE or 1000), stopping = false,
    started = timer.now(), next_turn = 0, sent = 0, requests = 0, failed = 0, failures = {},
    resent = 0, answers = {}, classes = {}, max = 0,
  }, Traffic)
  local workers = {}
  for worker = 1, opts.at_once or 8 do
    workers[worker] = function() work(self) end
  end
  self.task = task.spawn(scope.all, workers)
  return self
end

---Tells how things are now.
---@return kiln.load.Report
function Traffic:report()
  local seconds = (self.stopped or timer.now()) - self.started
  local versions = {}
  for key, answer in pairs(self.answers) do versions[key] = answer.count end
  return {
    seconds = seconds, requests = self.requests, rate = self.requests / math.max(seconds, 1e-9),
    failed = self.failed, failures = self.failures, resent = self.resent,
    first_failure = self.failures[1] and self.failures[1].message,
    answers = self.answers, versions = versions,
    latency = {
      p50 = math.min(percentile(self.classes, self.requests, 0.5), self.max),
      p99 = math.min(percentile(self.classes, self.requests, 0.99), self.max),
      max = self.max,
    },
  }
end

---Stops: waits for the requests that are under way. May run twice. Raises what `classify` or
---`expect` raised.
---@async
---@return kiln.load.Report
function Traffic:stop()
  self.stopping = true
  local ok, err = self.task:join()
  self.stopped = self.stopped or timer.now()
  if not ok then error(error_.from(err), 0) end
  return self:report()
end

function Traffic:__close(cause)
  self.stopping = true
  if cause ~= nil then self.task:cancel() end
  self.task:join()
end

---Runs a function while requests keep coming.
---@async
---@param opts kiln.load.Options
---@param body fun(): any ...
---@return kiln.load.Report report
---@return any ... what the function returned
function load.during(opts, body)
  local traffic <close> = load.start(opts)
  local results = table.pack(body())
  return traffic:stop(), table.unpack(results, 1, results.n)
end

---Puts a report in words: a line for the whole, one for each kind of answer, one for each failure
---that was kept.
---@param report kiln.load.Report
---@return string[] lines
function load.lines(report)
  local function ms(seconds) return ("%.1f ms"):format(seconds * 1e3) end
  local lines = {
    ("%d requests in %.1f s (%.0f/s), %d failed, p50 %s, p99 %s, max %s"):format(report.requests,
      report.seconds, report.rate, report.failed, ms(report.latency.p50),
      ms(report.latency.p99), ms(report.latency.max)),
  }
  local keys = {}
  for key in pairs(report.answers) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return report.answers[a].first < report.answers[b].first end)
  for _, key in ipairs(keys) do
    local answer = report.answers[key]
    lines[#lines + 1] = ("%s: %d answers, from %.2f s to %.2f s"):format(key, answer.count,
      answer.first, answer.last)
  end
  for _, one in ipairs(report.failures) do
    lines[#lines + 1] = ("failed at %.2f s (%s connection): %s"):format(one.at,
      one.fresh and "new" or "kept", one.message)
  end
  return lines
end

signature.class("traffic", Traffic)

return load
