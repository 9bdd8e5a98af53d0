---Death at a chosen point of a run: nothing that the run does after it reaches the journal or the
---world, as when SIGKILL ends the process there. The run itself unwinds as a stopped one, which
---writes nothing either. (On real machines it is SIGKILL: local_life.lua.)
local error_ = require "kiln.error"
local journal = require "rt.journal"

local death = { count = 0, seen = {} }

---How a process dies.
function death.kill()
  error_.raise { kind = "stopped", message = "killed here" }
end

---Begins a process's life.
---@param at? integer|string the point to die at, by its number or its name; nil: it lives
function death.live(at)
  death.count, death.at, death.dead, death.seen = 0, at, false, {}
end

---Passes a point; dies there if it is the chosen one.
---@param what string "before the intent of create app-blue-1"
function death.pass(what)
  if death.dead then death.kill() end
  death.count = death.count + 1
  death.seen[death.count] = what
  if death.count ~= death.at and what ~= death.at then return end
  death.dead, death.where = true, what
  death.kill()
end

---What a journal's write is about, for the list of points.
local function subject(sql, params)
  local verb, rest = sql:match("^%s*(%u+)%s+(.*)$")
  if verb ~= "INSERT" and verb ~= "UPDATE" and verb ~= "DELETE" then return nil end
  local words = rest:gsub("OR REPLACE ", ""):gsub("INTO ", "")
  if words:find("^events") then return nil end -- kept back: they ride with the next write
  if words:find("^ops %(") then return "the intent of " .. tostring(params[3]) end
  if words:find("^ops SET") then return "the outcome of " .. tostring(params[2]) end
  return "a write to " .. words:match("^%a+")
end

local Store = {}
Store.__index = Store

local function alive()
  if death.dead then death.kill() end
end

function Store:exec(sql, params)
  alive()
  local what = subject(sql, params or {})
  if self.within then
    self.what = what or self.what
    return self.db:exec(sql, params)
  end
  if not what then return self.db:exec(sql, params) end
  death.pass("before " .. what)
  local rows, err = self.db:exec(sql, params)
  death.pass("after " .. what)
  return rows, err
end

function Store:atomic(body)
  alive()
  self.what = nil
  local result = table.pack(self.db:atomic(function()
    self.within = true
    local ok, value = pcall(body)
    self.within = false
    if not ok then error(value, 0) end
    if self.what then death.pass("before " .. self.what) end
    return value
  end))
  if self.what then death.pass("after " .. self.what) end
  return table.unpack(result, 1, result.n)
end

function Store:close()
  self.db:close()
end

local real_open = journal.open

---Lets every journal that is opened from now on pass its writes as points.
function death.watch_journals()
  journal.open = function(path)
    local db, err = real_open(path)
    if not db then return nil, err end
    return setmetatable({ db = db }, Store)
  end
end

---Makes the lease of a dead process look like one: it has this process's number.
---@param path string of the state file
function death.bury(path)
  local db = assert(real_open(path))
  assert(db:exec("UPDATE leases SET pid_started = pid_started + 1"))
  db:close()
end

return death
