---@meta rt.journal

---SQL statements on a project's state file. Synchronous: an acknowledged write is on the disk
---(SQLite with WAL and synchronous=FULL). Only `kiln.store` uses it.
local journal = {}

---@class rt.journal.Store
local Store = {}

---Opens or makes a state file, mode 0600.
---@param path string
---@return rt.journal.Store? store
---@return table? err kinds denied, not_found, invalid (not a state file), locked, limit, io
function journal.open(path) end

---Gives the bytes of a new state file with the tables that a script of SQL makes. Written as a
---whole, it is there or not, never half made.
---@param script string
---@return string? bytes
---@return table? err
function journal.blank(script) end

---Runs one statement with parameters ?1, ?2 … A list that ends in nil says its length in `n`.
---@param sql string
---@param params? (string|number|boolean|nil)[] at most 32; json.null and nil are NULL
---@return table[]? rows by column name; fields `changes` and `last_id` beside them
---@return table? err kinds exists (a constraint), locked, limit (disk full), denied, invalid, io
function Store:exec(sql, params) end

---Runs a function inside one transaction; its error rolls back and is raised again. It must not
---wait.
---@param body fun(): any
---@return any? result what the function returned
---@return table? err when the transaction could not begin or commit
function Store:atomic(body) end

---Closes the store; an open transaction is rolled back. May run twice.
function Store:close() end

return journal
