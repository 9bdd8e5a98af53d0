---The state of a project: runs, their journals, the ledger of what they made, leases, releases.
---One SQLite file, `.kiln/state.db` beside the recipe; every function is one durable transaction.
local fs = require "rt.fs"
local journal = require "rt.journal"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local leases = require "kiln.store_leases"
local ops = require "kiln.store_ops"
local output = require "kiln.store_output"
local prune = require "kiln.store_prune"
local releases = require "kiln.store_releases"
local rows_ = require "kiln.store_rows"
local schema = require "kiln.store_schema"
local seal = require "kiln.store_seal"
local secret = require "kiln.secret"

local store = {}

---@class kiln.Store
---@field folder string the project's `.kiln`
---@field broken? kiln.Error the first write that failed; a run stops then
---@field private db rt.journal.Store
local Store = {}
Store.__index = Store
Store.__close = function(self) self:close() end

---What to do about a state file that cannot be read or written.
local advice = {
  limit = "make room there (disk, descriptors, memory)",
  denied = "look at the owner and the mode of the file and its folder; is it mounted read-only?",
  locked = "another program has held it for 10 s; let it end, or close it",
  invalid = "the file is damaged: copy its folder, then take it from a backup or rescue it with "
    .. "`sqlite3 state.db .recover`; what kiln made carries its names and tags",
  io = "the disk or its file system failed; see the kernel's log",
}

local function failure_of(path, err)
  return error_.new {
    kind = "store", cause = err.kind, code = err.code,
    message = ("state in %s: %s; %s"):format(path, err.message, advice[err.kind] or advice.io),
  }
end

---Makes the state file: as a whole, so that a kill leaves none or an empty one, and never over one
---that another process made meanwhile.
local function make(path)
  local bytes = error_.check(journal.blank(schema.script()))
  if fs.stat(path .. "-wal") and not fs.stat(path) then
    error_.raise { kind = "invalid",
      message = ("%s is gone, but its log %s-wal is there: put the file back beside its log, "
        .. "or take the log away too to begin with nothing"):format(path, path) }
  end
  local made, err = fs.write(path, bytes, { mode = "0600", exclusive = true })
  if not made and err.kind ~= "exists" then error(failure_of(path, err), 0) end
end

---Tells whether a project has a store.
---@param dir string where the recipe lies
---@return boolean
function store.is_there(dir)
  return fs.stat(dir .. "/.kiln/state.db") ~= nil
end

---Opens a project's store, and makes it unless `existing`. Raises `usage` when there is none,
---`unsupported` when a newer kiln wrote it.
---@param dir string where the recipe lies
---@param opts? { existing: boolean? }
---@return kiln.Store
function store.open(dir, opts)
  local folder = dir .. "/.kiln"
  local path = folder .. "/state.db"
  if opts and opts.existing and not fs.stat(path) then
    error_.raise { kind = "usage",
      message = ("no kiln project in %s: there is no .kiln beside a recipe; use -C DIR")
        :format(dir == "." and "this folder" or dir) }
  end
  if not fs.stat(path) then
    local made, err = fs.mkdir(folder, { parents = true, mode = "0700", sync = true })
    if not made then error(failure_of(path, err), 0) end
    make(path)
  end
  local made, problem = fs.write(folder .. "/.gitignore", "*\n", { exclusive = true })
  if not made and problem.kind ~= "exists" then error(failure_of(path, problem), 0) end
  local db, err = journal.open(path)
  if not db then error(failure_of(path, err), 0) end
  local self = setmetatable({
    folder = folder, path = path, db = db, lines = {}, outputs = {},
  }, Store)
  local ok
  ok, problem = pcall(function()
    rows_.only_tables(db, path)
    schema.prepare(db, path)
  end)
  if ok then return self end
  db:close()
  error(error_.is(problem, "unsupported", "store") and problem or failure_of(path, problem), 0)
end

---Closes the store; the events that were kept back are written first, unless it is broken.
function Store:close()
  if not self.db then return end
  local ok, err = true, nil
  if not self.broken then ok, err = pcall(self.write_back, self) end
  self.db:close()
  self.db = nil
  if not ok then error(err, 0) end
end

---Writes what was kept back of events, and of what commands printed.
---@private
function Store:write_back()
  self:flush()
  for key in pairs(self.outputs) do self:output_end(key) end
end

---Runs one statement. Whole rows of a table are checked.
local function exec(self, sql, ...)
  local rows, err = self.db:exec(sql, table.pack(...))
  if rows then
    local name = sql:match("^SELECT %* FROM (%l+)")
    if name then rows_.check(name, rows, self.path) end
    return rows
  end
  local failure = failure_of(self.path, err)
  self.broken = self.broken or failure
  error(failure, 0)
end

---Runs several as one transaction.
local function atomic(self, body)
  if self.inside then return body() end
  local done, err = self.db:atomic(function()
    self.inside = true
    local ok, result = pcall(body)
    self.inside = false
    if not ok then error(result, 0) end
    return result == nil and true or result
  end)
  if done ~= nil then return done end
  local failure = failure_of(self.path, err)
  self.broken = self.broken or failure
  error(failure, 0)
end

---Looks at every page before a run goes on from what they say. Raises `store`.
function Store:check_pages()
  local found = exec(self, "PRAGMA quick_check(1)")[1].quick_check
  if found == "ok" then return end
  error(failure_of(self.path, { kind = "invalid", message = found }), 0)
end

---Makes several changes one durable transaction: all of them, or none. The body must not wait.
---@param body fun()
function Store:together(body)
  atomic(self, body)
end

---Records a new run as running.
---@param row { id: string, recipe: string, entry: string, args: string, env: string, cloud: string,
---  service: string, kiln_version: string } args as JSON
function Store:run_new(row)
  exec(self, [[INSERT INTO runs (id, recipe, entry, args, env, cloud, service, kiln_version,
    status, started, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'running', ?9, ?10)]], row.id,
    row.recipe, row.entry, row.args, row.env, row.cloud, row.service, row.kiln_version,
    timer.time(), seal.run(row))
end

---Records what has become of a run.
---@param id string
---@param status "running"|"stopped"|"kept"|"failed"|"rolled_back"|"done"|"aborting"|"aborted"
---@param error_text? string JSON
---@param result? string JSON
function Store:run_status(id, status, error_text, result)
  self:flush()
  local ended = status ~= "running" and status ~= "aborting" and timer.time() or nil
  exec(self, "UPDATE runs SET status = ?2, error = ?3, result = ?4, ended = ?5 WHERE id = ?1",
    id, status, error_text, result, ended)
end

---Records what a failure of a run leaves.
---@param id string
---@param choice "cleanup"|"keep"|"ask"
function Store:run_on_error(id, choice)
  exec(self, "UPDATE runs SET on_error = ?2 WHERE id = ?1", id, choice)
end

---Records at which operation a run failed that was kept to go on from there.
---@param id string
---@param key? string
function Store:run_failed_at(id, key)
  exec(self, "UPDATE runs SET failed_key = ?2 WHERE id = ?1", id, key)
end

---Finds a run by its id or the beginning of it. Raises `usage` when several begin so.
---@param id string
---@return table?
function Store:run(id)
  if not id:find("^%x+$") then return nil end
  local rows = exec(self, "SELECT * FROM runs WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2",
    id:lower())
  if #rows > 1 and rows[1].id ~= id then
    error_.raise { kind = "usage", message = ("several runs begin with '%s'"):format(id) }
  end
  local row = rows[1]
  if row then seal.check(row.seal, seal.run(row), self.path, "run " .. row.id) end
  return row
end

---Lists runs, the newest first.
---@param opts? { limit: integer? } (50)
---@return table[]
function Store:runs(opts)
  return exec(self, "SELECT * FROM runs ORDER BY started DESC LIMIT ?1", opts and opts.limit or 50)
end

---Keeps the text of a file that a run loaded.
---@param run string
---@param path string below the recipe's folder
---@param text string
function Store:source_put(run, path, text)
  exec(self, "INSERT OR REPLACE INTO sources (run, path, text, seal) VALUES (?1, ?2, ?3, ?4)",
    run, path, text, seal.source(run, path, text))
end

---Gives the texts of the files that a run loaded.
---@param run string
---@return table<string, string>
function Store:sources(run)
  local texts = {}
  for _, row in ipairs(exec(self, "SELECT * FROM sources WHERE run = ?1", run)) do
    seal.check(row.seal, seal.source(run, row.path, row.text), self.path, "source " .. row.path)
    texts[row.path] = row.text
  end
  return texts
end

---Keeps an event of a run for `kiln log`. Written with the next durable change, or when twenty are
---there: a crash loses at most the last lines of the display, never of the journal.
---@param run string
---@param key? string
---@param kind string
---@param text string JSON
function Store:event(run, key, kind, text)
  self.lines[#self.lines + 1] = { run, key, kind, text, timer.time() }
  if #self.lines >= 20 then self:flush() end
end

---Writes the events that were kept back.
function Store:flush()
  if #self.lines == 0 and not next(self.outputs) then return end
  local lines = self.lines
  self.lines = {}
  atomic(self, function()
    self:output_flush()
    for _, line in ipairs(lines) do
      exec(self, "INSERT INTO events (run, key, type, body, time) VALUES (?1, ?2, ?3, ?4, ?5)",
        table.unpack(line, 1, 5))
    end
  end)
end

---Lists the events of a run.
---@param run string
---@param opts? { after: integer? } only those after this sequence number
---@return table[] rows seq, key, type, body (JSON), time
function Store:events(run, opts)
  self:flush()
  return exec(self, "SELECT * FROM events WHERE run = ?1 AND seq > ?2 ORDER BY seq", run,
    opts and opts.after or 0)
end

---Records that something is about to be made.
---@param row { run: string, key: string, provider: string, kind: string, name: string,
---  token: string, service: string?, colour: string? }
function Store:ledger_intent(row)
  exec(self, [[INSERT INTO ledger (token, run, key, provider, kind, name, service, colour, state,
    created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'intent', ?9)
    ON CONFLICT (token) DO UPDATE SET state = 'intent']], row.token, row.run, row.key, row.provider,
    row.kind, row.name, row.service, row.colour, timer.time())
end

---Records that it is there.
---@param token string
---@param id string the cloud's
---@param data string JSON of the provider's row
function Store:ledger_live(token, id, data)
  exec(self, "UPDATE ledger SET state = 'live', id = ?2, data = ?3 WHERE token = ?1", token, id,
    secret.redact(data))
end

---Records that it is gone.
---@param token string
function Store:ledger_gone(token)
  exec(self, "UPDATE ledger SET state = 'gone', gone = ?2 WHERE token = ?1", token, timer.time())
end

---Lists what kiln made.
---@param filter? { run: string?, state: string?, kind: string?, service: string?, env: string? }
---@return table[]
function Store:ledger(filter)
  filter = filter or {}
  return exec(self, [[SELECT * FROM ledger WHERE (?1 IS NULL OR run = ?1)
    AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR service = ?4)
    AND (?5 IS NULL OR run IN (SELECT id FROM runs WHERE env = ?5))
    ORDER BY created]], filter.run, filter.state, filter.kind, filter.service, filter.env)
end

for _, add in ipairs { leases, ops, output, prune, releases } do add(Store, exec, atomic) end

return store
