---Probes: asks a service until it answers well several times in a row, or says what it answered.
---
---Every attempt opens a connection of its own: a kept one would go on to the machine that answered
---before the traffic was moved.
local rt_http = require "rt.http"
local tcp = require "rt.tcp"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local http = require "kiln.http"
local policy = require "kiln.http.policy"
local secret = require "kiln.secret"

local probe = {}

---@class kiln.probe.Timing
---@field successes? integer in a row (3)
---@field interval? number seconds between attempts (0.2)
---@field within? number seconds for everything (90)
---@field stable? number seconds that the answers must stay good, on top of `within` (0)
---@field timeout? number seconds for one attempt (5)

---@class kiln.probe.Http: kiln.probe.Timing
---@field url? string|userdata instead of host, port and path
---@field host? string
---@field port? integer (80)
---@field path? string ("/")
---@field headers? table<string, string|userdata>
---@field expect? fun(response: rt.http.Response): boolean, string? whether the answer is good, and
---  why not (a status of 200 to 299)
---@field version? string that the answer must name, as `http.version` finds it; an answer that
---  names none is not good
---@field ca_file? string
---@field unix_socket? string
---@field proxy? boolean ask through the environment's proxy (false)

---@class kiln.probe.Tcp: kiln.probe.Timing
---@field host string
---@field port integer

---@class kiln.probe.Seen
---@field attempts integer
---@field seconds number
---@field last { status: integer?, body: string?, error: string? } the last answer, or why there was
---  none

local SHORTEST = 0.05 -- seconds for an attempt, also the last one

local timing = { successes = true, interval = true, within = true, timeout = true,
  stable = true }
local http_options = {
  url = true, host = true, port = true, path = true, headers = true, expect = true, version = true,
  ca_file = true, unix_socket = true, proxy = true,
}
local tcp_options = { host = true, port = true }

local function check_options(opts, known)
  for name in pairs(opts) do
    if not timing[name] and not known[name] then
      error(("unknown option '%s'"):format(tostring(name)), 3)
    end
  end
end

---What an answer was, in a few words: "500 {"error":…}", "connection refused".
local function tell(last)
  if last.error then return last.error end
  if not last.status then return "connected" end
  return last.body ~= "" and last.status .. " " .. last.body or tostring(last.status)
end

---Raises with the last answer and how often it came in a row: "500 ×5".
local function fail(where, state)
  local name = state.last.status or "no answer"
  local why = state.last.reason and ("; %s"):format(state.last.reason) or ""
  error_.raise {
    kind = "probe", where = where, attempts = state.attempts, seconds = state.seconds,
    last = { status = state.last.status, body = state.last.body, error = state.last.error },
    status = state.last.status, body = state.last.body,
    message = ("%s: %s ×%d in %.3g s%s, last answer: %s"):format(where, name, state.same,
      state.seconds, why, tell(state.last)),
  }
end

---Runs attempts until enough are good in a row. `try(timeout)` gives whether, and what was seen.
local function repeat_until(where, opts, try)
  local wanted, stable = opts.successes or 3, opts.stable or 0
  local within = (opts.within or 90) + stable
  local started = timer.now()
  local state = { attempts = 0, same = 0, seconds = 0 }
  local in_row, good_since = 0, nil
  while true do
    local left = within - (timer.now() - started)
    local good, last = try(math.max(SHORTEST, math.min(opts.timeout or 5, left)))
    state.attempts = state.attempts + 1
    local before = state.last
    state.same = before and before.status == last.status and state.same + 1 or 1
    state.last = last
    state.seconds = timer.now() - started
    in_row = good and in_row + 1 or 0
    good_since = good and (good_since or state.seconds) or nil
    local good_for = good and state.seconds - good_since or 0
    if in_row >= wanted and good_for >= stable then
      return {
        attempts = state.attempts, seconds = state.seconds,
        last = { status = last.status, body = last.body },
      }
    end
    local interval = opts.interval or 0.2
    if state.seconds + interval >= within then
      if good then
        last.reason = in_row < wanted and ("good %d in a row, not %d"):format(in_row, wanted)
          or ("good for %.3g s, not for %g s"):format(good_for, stable)
      end
      fail(where, state)
    end
    timer.sleep(interval)
  end
end

---Whether the answer is good; if not, why.
local function judge(response, opts)
  if opts.expect then
    local good, why = opts.expect(response)
    if not good then return false, why or "not as expected" end
  elseif response.status < 200 or response.status > 299 then
    return false
  end
  if opts.version then
    local version = http.version(response)
    if version ~= opts.version then
      return false, ("version %s, not %s"):format(version or "not named", opts.version)
    end
  end
  return true
end

local function url_of(opts)
  if opts.url then return secret.text(opts.url) end
  if not opts.host then error("option 'url' or 'host' is missing", 3) end
  local host = opts.host:find(":", 1, true) and "[" .. opts.host .. "]" or opts.host
  local path = opts.path or "/"
  return ("http://%s:%d%s%s"):format(host, opts.port or 80, path:find("^/") and "" or "/", path)
end

---Asks over HTTP until the answer is good several times in a row.
---Raises `probe` with `attempts`, `seconds` and `last`, and with the last answer in its message.
---@async
---@param opts kiln.probe.Http
---@return kiln.probe.Seen
function probe.http(opts)
  check_options(opts, http_options)
  local url = url_of(opts)
  local where = policy.place(opts.url or url)
  return repeat_until(where, opts, function(timeout)
    local response, err = rt_http.request {
      url = url, headers = opts.headers, ca_file = opts.ca_file, unix_socket = opts.unix_socket,
      connect_timeout = timeout, timeout = timeout, max_body = 1024 * 1024,
      fresh_connection = true, direct = not opts.proxy,
    }
    if not response then return false, { error = err.message } end
    local good, why = judge(response, opts)
    return good, { status = response.status, body = http.excerpt(response.body), reason = why }
  end)
end

---Connects until that works several times in a row. Raises `probe` as `probe.http` does.
---@async
---@param opts kiln.probe.Tcp
---@return kiln.probe.Seen
function probe.tcp(opts)
  check_options(opts, tcp_options)
  return repeat_until(("%s:%d"):format(opts.host, opts.port), opts, function(timeout)
    local reached, err = tcp.reach { host = opts.host, port = opts.port, timeout = timeout }
    return reached ~= nil, { error = err and err.message }
  end)
end

return probe
