---Errors of kiln: tables with a kind to match on and a message to read.
local error_ = {}

---@class kiln.Error
---@field kind string what callers match on: cancelled stopped timeout unreachable exit auth
---  host_key not_found exists invalid denied limit io tls protocol unsupported locked diverged
---  store …
---@field message string what, on which host or resource, and what to do next
---@field traceback? string
local Error = {}
Error.__index = Error
Error.__name = "kiln.Error"

Error.__metatable = "kiln.Error"

function Error.__tostring(self)
  return self.kind .. ": " .. self.message
end

---The errors that kiln made, with the kind that each was made with.
---@type table<kiln.Error, string>
local made = setmetatable({}, { __mode = "k" })

---Makes the table an error of kiln's.
local function adopt(fields)
  made[fields] = fields.kind
  return debug.setmetatable(fields, Error)
end

---Makes an error; give it to `error`.
---@param fields { kind: string, message: string, [string]: any }
---@return kiln.Error
function error_.new(fields)
  assert(type(fields.kind) == "string" and type(fields.message) == "string",
    "an error has a kind and a message")
  return adopt(fields)
end

---Raises an error with the given fields.
---@param fields { kind: string, message: string, [string]: any }
function error_.raise(fields)
  error(error_.new(fields), 0)
end

---Turns the `nil, err` of a primitive into a raise; returns the value otherwise.
---@generic T
---@param value T?
---@param err? table { kind, message }
---@param context? string put before the message: "upload of app.service to app-green-1"
---@return T
function error_.check(value, err, context)
  if value == nil and err ~= nil then
    local raised = error_.from(err)
    if context then raised.message = context .. ": " .. raised.message end
    error(raised, 0)
  end
  return value
end

---Makes any error value a kiln.Error: tables keep their fields, text becomes kind "error".
---@param value any
---@return kiln.Error
function error_.from(value)
  if made[value] then return value end
  if value == "not enough memory" then -- Lua's own; no message handler has seen it
    return error_.new { kind = "memory",
      message = "out of memory; end what else needs it, or run fewer tasks at a time" }
  end
  if type(value) ~= "table" then return error_.new { kind = "error", message = tostring(value) } end
  if type(value.kind) ~= "string" then value.kind = "error" end
  if type(value.message) ~= "string" then value.message = "no message" end
  return adopt(value)
end

---Kinds that steer a run, see `halts`, and `cancelled`: only kiln raises them.
local steering = {
  stopped = true, fenced = true, diverged = true, store = true, memory = true, cancelled = true,
}

---What kiln notes in an error on its way up, and then acts on.
local notes = {
  "abort", "choice", "effect", "kept", "moved_back", "not_undone", "op", "replayed", "undone",
  "undone_text",
}

---Makes an error value of a recipe's own one that cannot steer the run: a kind that only kiln
---raises becomes "error", and kiln's notes are removed. An error that kiln made passes, with the
---kind that it was made with.
---@param value any what the recipe raises
---@return any value
function error_.foreign(value)
  if value == "not enough memory" then -- Lua says so when it is true
    return error_.new { kind = "error", message = value }
  end
  if type(value) ~= "table" then return value end
  local kind = made[value]
  if kind then
    value.kind = kind
    return value
  end
  if steering[rawget(value, "kind")] then rawset(value, "kind", "error") end
  if rawget(value, "kind") == "auth" then rawset(value, "cloud", nil) end
  for _, name in ipairs(notes) do rawset(value, name, nil) end
  return value
end

---Tells whether a value is an error of one of the kinds.
---@param value any
---@param ... string kinds
---@return boolean
function error_.is(value, ...)
  if type(value) ~= "table" then return false end
  for i = 1, select("#", ...) do
    if value.kind == select(i, ...) then return true end
  end
  return false
end

---Tells whether an error ends the run where it is: nothing is unwound, no outcome is recorded, and
---a resume comes back to the same place. `stopped`: told to; `fenced`: another kiln took over;
---`diverged`: the recipe is not the journal's; `store`: the journal cannot be read or written;
---`memory`: there is none left to unwind with; `auth` of a cloud: it lets nobody undo anything.
---@param value any
---@return boolean
function error_.halts(value)
  return error_.is(value, "stopped", "fenced", "diverged", "store", "memory")
    or error_.is(value, "auth") and value.cloud ~= nil
end

---Notes in the error that ends a run which operation of its undo failed: an abort tries it again.
---@param err kiln.Error
---@param failure kiln.Error
function error_.note_open(err, failure)
  if not failure.op then return end
  err.not_undone = err.not_undone or {}
  table.insert(err.not_undone, failure.op)
end

---Takes over what another error notes of an undo that failed, because that error is not raised.
---@param err kiln.Error
---@param other kiln.Error
function error_.take_open(err, other)
  if err == other or not other.not_undone then return end
  err.not_undone = err.not_undone or {}
  table.move(other.not_undone, 1, #other.not_undone, #err.not_undone + 1, err.not_undone)
end

---Tells whether what failed so may succeed another time: what is not there, and what nobody can do
---or know, will not.
---@param value any
---@return boolean
function error_.may_pass(value)
  return not error_.is(value, "not_found", "invalid", "unsupported", "usage", "error", "cancelled",
    "in_doubt")
end

---Copies a table to what a journal can keep: text, numbers and booleans, lists and maps of them.
---@param fields table
---@return table
function error_.plain_fields(fields)
  local function copy(value, depth)
    local kind = type(value)
    if kind == "string" or kind == "boolean" then return value end
    if kind == "number" then
      local kept = math.type(value) == "integer" or value == value and math.abs(value) < 1e14
      return kept and value or nil
    end
    if kind ~= "table" or depth > 5 then return nil end
    local out = {}
    for key, item in pairs(value) do
      if type(key) == "string" or math.type(key) == "integer" then
        out[key] = copy(item, depth + 1)
      end
    end
    return out
  end
  return copy(fields, 0)
end

---Gives the parts of an error that a journal can keep.
---@param value any
---@return table
function error_.plain(value)
  return error_.plain_fields(error_.from(value))
end

return error_
