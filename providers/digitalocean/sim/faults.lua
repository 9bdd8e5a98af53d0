---Faults: placed by method, path and count, never random.
---
---A fault is a table { method, path, nth, times, type, kind, … }: the nth request (1) whose method
---and path match, and as many after it as `times` says (1). In a path `*` stands for one part and
---`**` for any rest. `type` matches the `type` in the body of an action's request, `member` picks
---one of the droplets that a request makes.
local json = require "kiln.json"
local error_ = require "kiln.error"

local faults = {}

---@class kiln.do.sim.Fault
---@field kind string one of the catalogue
---@field method? string (any)
---@field path? string "/v2/droplets/*/actions" (any)
---@field type? string "snapshot": of an action's request (any)
---@field nth? integer (1)
---@field times? integer (1)
---@field seconds? number
---@field status? integer
---@field body? string
---@field retry_after? number
---@field member? integer which of the droplets of one request (all)
---@field after? boolean the request takes effect before it is answered so (false)

---Every kind of fault. `on`: "any" request, one that may "change" something (no GET), one that
---"create"s, or one that starts an "action".
---`effect`: whether the request does what it asks. `example` is complete but for its place.
---@type { kind: string, on: string, effect: boolean, what: string, example: table }[]
faults.catalogue = {
  { kind = "lost_before", on = "any", effect = false, example = { kind = "lost_before" },
    what = "the connection drops before the request takes effect" },
  { kind = "lost_after", on = "any", effect = true, example = { kind = "lost_after" },
    what = "the request takes effect and the connection drops before the answer" },
  { kind = "status", on = "any", effect = false, example = { kind = "status", status = 500 },
    what = "an error: `status`, `body`; with `after` the request takes effect all the same" },
  { kind = "html", on = "any", effect = false, example = { kind = "html", status = 504 },
    what = "a gateway's HTML page instead of JSON: `status` (502), `after`" },
  { kind = "truncated", on = "any", effect = true, example = { kind = "truncated" },
    what = "the request takes effect and half of the JSON comes back" },
  { kind = "empty", on = "any", effect = true, example = { kind = "empty" },
    what = "the request takes effect and the answer is `{}`" },
  { kind = "array", on = "any", effect = true, example = { kind = "array" },
    what = "the request takes effect and the answer is `[]`" },
  { kind = "nulls", on = "any", effect = true, example = { kind = "nulls" },
    what = "the request takes effect and the answer has null for everything" },
  { kind = "page", on = "any", effect = false, example = { kind = "page" },
    what = "200 with a gateway's HTML page, `after`" },
  { kind = "rate_limit", on = "any", effect = false,
    example = { kind = "rate_limit", retry_after = 2 },
    what = "429, with `retry_after` seconds or without" },
  { kind = "unauthorized", on = "any", effect = false, example = { kind = "unauthorized" },
    what = "401, as for a token that was revoked in the middle" },
  { kind = "delay", on = "any", effect = true, example = { kind = "delay", seconds = 20 },
    what = "the answer comes `seconds` later" },
  { kind = "pending", on = "change", effect = false, example = { kind = "pending" },
    what = "422: an event of the same resource runs" },
  { kind = "try_again", on = "change", effect = false, example = { kind = "try_again" },
    what = "422 that asks to try again" },
  { kind = "busy", on = "change", effect = false, example = { kind = "busy" },
    what = "403: the load balancer processes previous actions" },
  { kind = "unseen", on = "create", effect = true, example = { kind = "unseen", seconds = 5 },
    what = "what was created answers 404, and is in no list, for `seconds`" },
  { kind = "vanish", on = "create", effect = true, example = { kind = "vanish" },
    what = "what was created is accepted and gone again after `seconds`" },
  { kind = "no_address", on = "create", effect = true,
    example = { kind = "no_address", seconds = 10 },
    what = "a droplet or load balancer is active `seconds` before it has an address" },
  { kind = "errored", on = "action", effect = true, example = { kind = "errored" },
    what = "the action is accepted and ends errored" },
  { kind = "endless", on = "action", effect = true, example = { kind = "endless" },
    what = "the action is accepted and never ends" },
  { kind = "slow", on = "action", effect = true, example = { kind = "slow", seconds = 300 },
    what = "the action takes `seconds`" },
  { kind = "ignored", on = "action", effect = true, example = { kind = "ignored" },
    what = "a shutdown completes and the droplet stays active" },
}

local known_fields = { kind = "string", method = "string", path = "string", type = "string",
  nth = "integer", times = "integer", seconds = "number", status = "integer", body = "string",
  retry_after = "number", after = "boolean", member = "integer" }

local function entry_of(kind)
  for _, entry in ipairs(faults.catalogue) do
    if entry.kind == kind then return entry end
  end
end

local function invalid(index, message, ...)
  error_.raise { kind = "usage", message = ("fault %d: "):format(index) .. message:format(...) }
end

local function check(fault, index)
  if type(fault) ~= "table" then invalid(index, "it must be a table") end
  for name, value in pairs(fault) do
    local wanted = known_fields[name]
    if not wanted then invalid(index, "unknown field '%s'", tostring(name)) end
    if type(value) ~= wanted and math.type(value) ~= wanted then
      invalid(index, "field '%s' must be of type %s", name, wanted)
    end
  end
  if not entry_of(fault.kind) then
    invalid(index, "there is no kind '%s'; `kiln sim digitalocean --list-faults` lists them",
      tostring(fault.kind))
  end
end

---Makes a Lua pattern of a path with `*` and `**`.
local function pattern_of(path)
  if not path then return "" end
  local text = path:gsub("/+$", ""):gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0")
  text = text:gsub("%*%*", "\0"):gsub("%*", "[^/]+"):gsub("%z", ".*")
  return "^" .. text .. "$"
end

---@class kiln.do.sim.Faults
local Faults = {}
Faults.__index = Faults

---Reads a list of faults. Raises `usage` with the number of the one that is wrong.
---@param list kiln.do.sim.Fault[]?
---@return kiln.do.sim.Faults
function faults.new(list)
  local self = setmetatable({ placed = {} }, Faults)
  for index, fault in ipairs(list or {}) do
    check(fault, index)
    self:place(fault)
  end
  return self
end

---Places one more fault; its count starts now.
---@param fault kiln.do.sim.Fault
function Faults:place(fault)
  check(fault, #self.placed + 1)
  self.placed[#self.placed + 1] = { fault = fault, pattern = pattern_of(fault.path), seen = 0 }
end

local function matches(placed, request)
  local fault = placed.fault
  return (not fault.method or fault.method:upper() == request.method)
    and request.path:find(placed.pattern) ~= nil
    and (not fault.type or request.body.type == fault.type)
end

---Counts a request and gives the fault that is placed on it.
---@param request { method: string, path: string, body: table }
---@return kiln.do.sim.Fault?
function Faults:take(request)
  local hit
  for _, placed in ipairs(self.placed) do
    if matches(placed, request) then
      placed.seen = placed.seen + 1
      local first = placed.fault.nth or 1
      if not hit and placed.seen >= first and placed.seen < first + (placed.fault.times or 1) then
        hit = placed.fault
      end
    end
  end
  return hit
end

local pages = "<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%d %s</h1>"
  .. "</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
local reasons = { [500] = "Internal Server Error", [502] = "Bad Gateway",
  [503] = "Service Unavailable", [504] = "Gateway Time-out" }

local function problem(status, id, message)
  return { status = status, headers = { ["content-type"] = "application/json; charset=utf-8" },
    body = json.encode { id = id, message = message } }
end

local answers = {
  status = function(fault)
    local answer = problem(fault.status or 500, "server_error",
      "Server was unable to give you a response.")
    answer.body = fault.body or answer.body
    return answer
  end,
  html = function(fault)
    local status = fault.status or 502
    local reason = reasons[status] or "Error"
    return { status = status, headers = { ["content-type"] = "text/html" },
      body = pages:format(status, reason, status, reason) }
  end,
  page = function()
    return { status = 200, headers = { ["content-type"] = "text/html" },
      body = "<!DOCTYPE html>\n<html><body><h1>Welcome to the gateway</h1></body></html>\n" }
  end,
  rate_limit = function(fault)
    local answer = problem(429, "too_many_requests", "API Rate limit exceeded.")
    answer.headers["retry-after"] = fault.retry_after and ("%d"):format(fault.retry_after) or nil
    return answer
  end,
  unauthorized = function()
    return problem(401, "unauthorized", "Unable to authenticate you.")
  end,
  pending = function()
    return problem(422, "unprocessable_entity", "Droplet already has a pending event.")
  end,
  try_again = function()
    return problem(422, "unprocessable_entity", "Something went wrong, please try again.")
  end,
  busy = function()
    return problem(403, "forbidden",
      "Load Balancer can't be updated while it processes previous actions")
  end,
}

---Gives the answer that a fault puts in place of the real one; nil when it has none.
---@param fault kiln.do.sim.Fault
---@return { status: integer, headers: table<string, string>, body: string }? answer
function faults.answer(fault)
  local make = answers[fault.kind]
  return make and make(fault)
end

---What a fault makes of a successful answer.
local changes = {
  truncated = function(body) return body:sub(1, #body // 2) end,
  empty = function() return "{}" end,
  array = function() return "[]" end,
  nulls = function(body)
    local nulls = {}
    for name in pairs(body ~= "" and json.decode(body) or {}) do nulls[name] = json.null end
    return json.encode(nulls)
  end,
}

---Changes an answer as a fault has it.
---@param fault? kiln.do.sim.Fault
---@param answer { status: integer, headers: table<string, string>, body: string }
function faults.change(fault, answer)
  local change = fault and changes[fault.kind]
  if not change or answer.status >= 300 then return end
  if answer.status == 204 and fault.kind ~= "truncated" then answer.status = 200 end
  answer.body = change(answer.body)
end

return faults
