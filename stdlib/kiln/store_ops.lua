---The store's part on operations: the journal of a run.
local json = require "rt.json"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local seal = require "kiln.store_seal"

---Tells whether an operation that failed may have taken effect all the same: no answer came to it,
---or it was cancelled after it had begun.
---@param text string JSON of its error
---@return boolean
local function is_in_doubt(text)
  local err = json.decode(text, { bytes = "keep" })
  if err.effect == "none" then return false end
  return error_.is(err, "in_doubt", "cancelled") or err.effect == "maybe" and err.status == nil
end

---Adds the methods to the store's class.
---@param Store table
---@param exec fun(self: kiln.Store, sql: string, ...: any): table[]
---@param atomic fun(self: kiln.Store, body: fun(): any): any
return function(Store, exec, atomic)
  ---Lists the keys of a task's operations and blocks, its own and those below: "/6#1", "/6!1",
  ---"/6/2#1", "/6~1#1".
  ---@param run string
  ---@param path string
  ---@return string[]
  function Store:op_keys_below(run, path)
    local rows = exec(self, [[SELECT key FROM ops WHERE run = ?1
      AND (key >= ?2 AND key < ?3 OR key >= ?4 AND key < ?5)]], run, path .. "!", path .. "0",
      path .. "~", path .. "\x7f")
    local keys = {}
    for index, row in ipairs(rows) do keys[index] = row.key end
    return keys
  end

  ---Gives an operation's row: name, class, digest, state "intent"|"again"|"done"|"failed", result,
  ---error. "again": an earlier attempt failed, and the next one has not begun.
  ---@param run string
  ---@param key string
  ---@return table?
  function Store:op(run, key)
    local row = exec(self, "SELECT * FROM ops WHERE run = ?1 AND key = ?2", run, key)[1]
    if row then seal.check_op(row, self.path) end
    return row
  end

  ---Records that an operation is about to touch the world.
  ---@param run string
  ---@param key string
  ---@param name string
  ---@param class string
  ---@param digest string of its arguments
  ---@param args string JSON
  function Store:op_intent(run, key, name, class, digest, args)
    atomic(self, function()
      self:hold()
      self:flush()
      exec(self, [[INSERT INTO ops (run, key, name, class, digest, args, state, started, seal)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'intent', ?7, ?8)]], run, key, name, class, digest, args,
        timer.time(), seal.intent { run = run, key = key, name = name, class = class,
          digest = digest, args = args })
    end)
  end

  ---Records that an operation is about to touch the world in another attempt.
  ---@param run string
  ---@param key string
  function Store:op_begin_again(run, key)
    atomic(self, function()
      self:hold()
      self:flush()
      exec(self, "UPDATE ops SET state = 'intent' WHERE run = ?1 AND key = ?2 AND state = 'again'",
        run, key)
    end)
  end

  ---Records an operation's outcome.
  ---@param run string
  ---@param key string
  ---@param ok boolean
  ---@param text string JSON of the result or the error
  function Store:op_outcome(run, key, ok, text)
    local state, lease = ok and "done" or "failed", self.lease
    local done = exec(self, ([[UPDATE ops SET state = ?6, %s = ?3, ended = ?4, outcome_seal = ?5
      WHERE run = ?1 AND key = ?2 AND state = 'intent'
      AND (?7 IS NULL OR EXISTS
        (SELECT 1 FROM leases WHERE scope = ?7 AND run = ?1 AND fence = ?8))]])
      :format(ok and "result" or "error"), run, key, text, timer.time(),
      seal.outcome(run, key, state, text), state, lease and lease.scope, lease and lease.fence)
    if done.changes == 1 then return end
    self:hold()
    error("an outcome needs an intent")
  end

  ---Lists the operations of a run in the order of their intents.
  ---@param run string
  ---@return table[]
  function Store:ops(run)
    return exec(self, "SELECT * FROM ops WHERE run = ?1 ORDER BY seq", run)
  end

  ---Tells whether an aborting run has had its `cancelled` error already.
  ---@param run string
  ---@return boolean
  function Store:abort_delivered(run)
    return #exec(self, [[SELECT 1 FROM ops WHERE run = ?1 AND state = 'failed'
      AND error LIKE '%"abort":true%']], run) > 0
  end

  ---Lets operations of an undo that failed be tried again, and nothing else.
  ---@param id string
  ---@param keys string[]
  function Store:ops_retry_undo(id, keys)
    for _, key in ipairs(keys) do
      exec(self, [[UPDATE ops SET state = 'again', attempt = attempt + 1, error = NULL,
        outcome_seal = NULL, ended = NULL WHERE run = ?1 AND key = ?2 AND state = 'failed']], id,
        key)
    end
  end

  ---Lets the operation at which a run failed be tried again, and those that its failure cancelled
  ---beside it; so for a choice that a failure made. One whose failure is known has not begun again;
  ---one that may have taken effect is an intent, to be settled.
  ---@param id string
  ---@param key string
  function Store:ops_retry(id, key)
    atomic(self, function()
      local row = exec(self, "SELECT ended FROM ops WHERE run = ?1 AND key = ?2", id, key)[1]
      if not row then return end
      local failed = exec(self, [[SELECT key, error FROM ops WHERE run = ?1 AND state = 'failed'
        AND (key = ?2 OR ended >= ?3)]], id, key, row.ended)
      for _, one in ipairs(failed) do
        exec(self, [[UPDATE ops SET state = ?3, attempt = attempt + 1, error = NULL,
          outcome_seal = NULL, ended = NULL WHERE run = ?1 AND key = ?2]], id, one.key,
          is_in_doubt(one.error) and "intent" or "again")
      end
      exec(self, "DELETE FROM ops WHERE run = ?1 AND class = 'choice' AND ended >= ?2", id,
        row.ended)
    end)
  end
end
