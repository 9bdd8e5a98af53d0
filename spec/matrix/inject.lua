---An error at a chosen operation of a run, before its first request that changes something. It is
---raised each time that the operation is performed, until the cause is gone.
local error_ = require "kiln.error"
local op = require "kiln.op"
local scope = require "kiln.scope"

local inject = {}

---@class spec.Injection
---@field key string the operation's: "/#4"
---@field place "prepare"|"perform"|"request" while it renders, at once, or where its first request
---  would be sent
---@field error { kind: string, message: string }
---@field reached? boolean
---@field undoing? boolean it is part of an undo, or comes after the old was given up
---@field committed? boolean it comes after the old was given up
---@field performing? boolean

---Where it can be raised.
inject.places = { "prepare", "perform", "request" }

---What can be raised: a fault of kiln's own, what the cloud or this computer refuses, what may
---pass, a token that is refused, memory that is out.
inject.errors = {
  { kind = "error" }, { kind = "invalid" }, { kind = "limit" }, { kind = "io" },
  { kind = "unreachable", effect = "none" }, { kind = "usage" }, { kind = "memory" },
  { kind = "auth", cloud = "digitalocean", effect = "none" },
}

local current, seen

---Places an error, or takes it away.
---@param fault? spec.Injection
function inject.place(fault)
  current = fault
end

---Notes the operations that a run performs from now on.
---@return { key: string, name: string }[] operations
function inject.watch()
  seen = {}
  return seen
end

local function raise()
  local fields = { message = "injected" }
  for name, value in pairs(current.error) do fields[name] = value end
  error_.raise(fields)
end

---Passes the place before a request that changes something.
function inject.pass()
  local operation = scope.state().operation
  if not current or current.place ~= "request" or not current.performing then return end
  if operation and operation.key == current.key then raise() end
end

---Changes an operation so that it fails.
local function broken(spec)
  local copy = {}
  for name, value in pairs(spec) do copy[name] = value end
  if current.place ~= "request" then
    copy[current.place] = function(...)
      if current then raise() end
      return spec[current.place](...)
    end
    return copy
  end
  copy.perform = function(...)
    local fault = current
    if fault then fault.performing = true end
    local result = table.pack(xpcall(spec.perform, error_.from, ...))
    if fault then fault.performing = false end
    if not result[1] then error(result[2], 0) end
    return table.unpack(result, 2, result.n)
  end
  return copy
end

local real = op.call

function op.call(spec)
  local state = scope.state()
  if state.operation or not state.run then return real(spec) end
  local key = ("%s#%d"):format(state.path, (state.ordinal or 0) + 1)
  if seen then seen[#seen + 1] = { key = key, name = spec.name } end
  if not current or current.key ~= key then return real(spec) end
  current.reached = true
  current.undoing = state.cleanup or state.run.committed ~= nil
  current.committed = state.run.committed ~= nil
  return real(broken(spec))
end

return inject
