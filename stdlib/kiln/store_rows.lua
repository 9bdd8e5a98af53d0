---What the rows of a store are. A state file may be damaged, or written by somebody else: what kiln
---goes by is checked where it is read. Names that become paths, modules or arguments of programs
---have no character that means more there.
local json = require "rt.json"
local error_ = require "kiln.error"

local rows = {}

local function text(value) return type(value) == "string" end
local function number(value) return type(value) == "number" and value == value end
local function integer(value) return math.type(value) == "integer" end

---@param pattern string that the whole text must match
---@param most? integer characters (80)
local function like(pattern, most)
  pattern, most = "^" .. pattern .. "$", most or 80
  return function(value)
    return text(value) and #value <= most and value:find(pattern) ~= nil
  end
end

local function or_nothing(check)
  return function(value) return value == nil or check(value) end
end

local run_id = like "%x+"
local word = like "%a[%w_%-]*" -- a cloud: the name of a module
local token = like("[%w][%w%.:_%-]*", 200) -- a part of a file's name
local function object(value) return text(value) and value:find("^{.*}$") ~= nil end -- of JSON
local maybe_text, maybe_number = or_nothing(text), or_nothing(number)

---Tells whether a text is what a machine can be reached by: an address or a host's name, which no
---program takes for an option.
---@type fun(value: any): boolean
rows.is_address = like("[%w:][%w%.:_%-%%]*", 255)

---Tells whether a text is the name of a machine or another thing in a cloud.
---@type fun(value: any): boolean
rows.is_name = like("[%w][%w%._%-]*", 255)

---Tells whether a text is one public key: "ssh-ed25519 AAAA…", perhaps with a comment.
---@type fun(value: any): boolean
rows.is_public_key = like("[%w%-@%.]+ [%w+/]+=* ?[^%c]*", 16384)

---Tells whether a value is a table whose fields of these names are texts, where there are any.
local function has_texts(value, ...)
  if type(value) ~= "table" then return false end
  for _, name in ipairs { ... } do
    if not maybe_text(value[name]) then return false end
  end
  return true
end

---A release's record: its machines, and the front that leads to them.
local function is_release(value)
  local record = text(value) and json.decode(value)
  if type(record) ~= "table" or type(record.machines) ~= "table" then return false end
  for _, machine in pairs(record.machines) do
    if not has_texts(machine, "id", "name", "address", "image", "token", "host_key") then
      return false
    end
  end
  return has_texts(record.address, "id", "name", "ip", "kind")
end

---@type table<string, table<string, fun(value: any): boolean>> the columns of each table
local tables = {
  runs = {
    id = run_id, recipe = like("[^/%c]+", 255), entry = text, args = object, env = text,
    cloud = word, service = text, kiln_version = text, status = text, started = number,
    ended = maybe_number, result = maybe_text, error = maybe_text, seal = maybe_text,
    failed_key = maybe_text, on_error = maybe_text,
  },
  sources = { run = run_id, path = text, text = text, seal = maybe_text },
  ops = {
    seq = integer, run = run_id, key = text, name = text, class = text, digest = text,
    args = object, state = text, result = maybe_text, error = maybe_text, started = number,
    ended = maybe_number, seal = maybe_text, outcome_seal = maybe_text, attempt = integer,
  },
  events = {
    seq = integer, run = text, key = maybe_text, type = text, body = object, time = number,
    output = maybe_text,
  },
  ledger = {
    token = token, run = or_nothing(like "%x*"), key = text, provider = word, kind = text,
    name = text, id = maybe_text, service = maybe_text, colour = maybe_text, state = text,
    data = or_nothing(object), created = number, gone = maybe_number,
  },
  leases = {
    scope = text, run = text, fence = integer, host = text, pid = integer, pid_started = integer,
    boot_id = text, since = number, expires = number, expires_up = maybe_number, user = maybe_text,
  },
  releases = {
    id = integer, run = or_nothing(like "%x*"), service = text, env = text, version = text,
    image = text, colour = text, state = text, kept_until = maybe_number, data = is_release,
    created = number, cloud = or_nothing(word),
  },
  project = { id = like "%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x" },
}

---Raises `store` for a row that kiln cannot have written.
---@param name string the table
---@param list table[] its rows, every column of them
---@param path string of the state file
function rows.check(name, list, path)
  local columns = tables[name]
  for _, row in ipairs(list) do
    for column, is in pairs(columns) do
      if not is(row[column]) then
        error_.raise { kind = "store", cause = "invalid", message = ("state in %s: a row of %s has "
          .. "a '%s' that kiln does not write; the file is damaged, or somebody else made it: copy "
          .. "its folder, then take it from a backup"):format(path, name, column) }
      end
    end
  end
end

---Raises `store` for a state file that does more than keep rows: SQLite would run its triggers and
---views when kiln reads and writes.
---@param db rt.journal.Store
---@param path string
function rows.only_tables(db, path)
  local found = error_.check(db:exec [[SELECT type, name FROM sqlite_schema
    WHERE type NOT IN ('table', 'index') OR sql LIKE 'create virtual%' LIMIT 1]], nil, path)[1]
  if not found then return end
  error_.raise { kind = "store", cause = "invalid", message = ("state in %s: it has the %s '%s', "
    .. "which kiln does not make: somebody else wrote this file; use a .kiln that you trust")
    :format(path, found.type, found.name) }
end

return rows
