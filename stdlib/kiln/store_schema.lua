---The store's tables, and how older ones become today's.
local error_ = require "kiln.error"

local schema = {}

---Each entry brings the schema from the version before to its own; never edited once released.
local migrations = {
  {
    [[CREATE TABLE runs (id TEXT PRIMARY KEY, recipe TEXT NOT NULL, entry TEXT NOT NULL,
      args TEXT NOT NULL, env TEXT NOT NULL, cloud TEXT NOT NULL, service TEXT NOT NULL,
      kiln_version TEXT NOT NULL, status TEXT NOT NULL, started REAL NOT NULL, ended REAL,
      result TEXT, error TEXT)]],
    [[CREATE TABLE sources (run TEXT NOT NULL REFERENCES runs (id), path TEXT NOT NULL,
      text TEXT NOT NULL, PRIMARY KEY (run, path))]],
    [[CREATE TABLE ops (seq INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs (id),
      key TEXT NOT NULL, name TEXT NOT NULL, class TEXT NOT NULL, digest TEXT NOT NULL,
      args TEXT NOT NULL, state TEXT NOT NULL, result TEXT, error TEXT, started REAL NOT NULL,
      ended REAL, UNIQUE (run, key))]],
    [[CREATE TABLE events (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, key TEXT,
      type TEXT NOT NULL, body TEXT NOT NULL, time REAL NOT NULL)]],
    "CREATE INDEX events_of_run ON events (run, seq)",
    [[CREATE TABLE ledger (token TEXT PRIMARY KEY, run TEXT NOT NULL, key TEXT NOT NULL,
      provider TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, id TEXT, service TEXT,
      colour TEXT, state TEXT NOT NULL, data TEXT, created REAL NOT NULL, gone REAL)]],
    [[CREATE TABLE leases (scope TEXT PRIMARY KEY, run TEXT NOT NULL, fence INTEGER NOT NULL,
      host TEXT NOT NULL, pid INTEGER NOT NULL, pid_started INTEGER NOT NULL,
      boot_id TEXT NOT NULL, since REAL NOT NULL, expires REAL NOT NULL)]],
    [[CREATE TABLE releases (id INTEGER PRIMARY KEY, run TEXT NOT NULL, service TEXT NOT NULL,
      env TEXT NOT NULL, version TEXT NOT NULL, image TEXT NOT NULL, colour TEXT NOT NULL,
      state TEXT NOT NULL, kept_until REAL, data TEXT NOT NULL, created REAL NOT NULL)]],
    "CREATE INDEX releases_of_service ON releases (service, env, state)",
  },
  {
    "ALTER TABLE runs ADD COLUMN seal TEXT",
    "ALTER TABLE sources ADD COLUMN seal TEXT",
    "ALTER TABLE ops ADD COLUMN seal TEXT",
    "ALTER TABLE ops ADD COLUMN outcome_seal TEXT",
  },
  {
    "ALTER TABLE leases ADD COLUMN expires_up REAL", -- by the monotonic clock of its boot_id
    "ALTER TABLE leases ADD COLUMN user TEXT",
    "ALTER TABLE runs ADD COLUMN failed_key TEXT", -- where a failed run was kept to go on
    "ALTER TABLE ops ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0",
  },
  {
    "ALTER TABLE runs ADD COLUMN on_error TEXT", -- cleanup, keep, ask; once decided, never ask
  },
  {
    "CREATE TABLE project (id TEXT PRIMARY KEY)", -- one row, as in the file kiln.project
    "ALTER TABLE releases ADD COLUMN cloud TEXT",
    "UPDATE releases SET cloud = (SELECT cloud FROM runs WHERE runs.id = releases.run)",
    -- A release's service has its environment's name: "app-staging".
    [[UPDATE releases SET service = service || '-' || env WHERE env <> 'default'
      AND substr(service, -length(env) - 1) <> '-' || env]],
  },
  {
    "ALTER TABLE events ADD COLUMN output BLOB", -- lines that a command printed, packed
  },
}

---Gives the script of SQL that makes a schema.
---@param version? integer (today's)
---@return string
function schema.script(version)
  local lines = {}
  for number = 1, version or #migrations do
    for _, statement in ipairs(migrations[number]) do lines[#lines + 1] = statement .. ";" end
  end
  lines[#lines + 1] = ("PRAGMA user_version = %d;"):format(version or #migrations)
  return table.concat(lines, "\n")
end

---Brings an open store to today's schema. Raises `unsupported` for one of a newer kiln.
---@param db rt.journal.Store
---@param path string for messages
function schema.prepare(db, path)
  local version = error_.check(db:exec("PRAGMA user_version"), nil, path)[1].user_version
  if version > #migrations then
    error_.raise { kind = "unsupported",
      message = ("%s was written by a newer kiln (schema %d, this kiln knows %d); use that kiln")
        :format(path, version, #migrations) }
  end
  if version == #migrations then return end
  error_.check(db:atomic(function()
    -- Another process may have been first while we waited for the lock.
    version = error_.check(db:exec("PRAGMA user_version"))[1].user_version
    for step = version + 1, #migrations do
      for _, statement in ipairs(migrations[step]) do error_.check(db:exec(statement)) end
    end
    error_.check(db:exec(("PRAGMA user_version = %d"):format(#migrations)))
    return true
  end))
end

return schema
