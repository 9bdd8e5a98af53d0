---The store's part on old runs: which of them nothing needs, and forgetting them.

---Adds the methods to the store's class.
---@param Store table
---@param exec fun(self: kiln.Store, sql: string, ...: any): table[]
---@param atomic fun(self: kiln.Store, body: fun(): any): any
return function(Store, exec, atomic)
  ---Lists the runs that may be forgotten, the newest first: those that have ended, of which nothing
  ---exists any more and no release serves or is kept.
  ---@param opts { keep: integer, before: number? } how many of the newest runs stay, whatever they
  ---  are; only runs that ended before this time, seconds since 1970
  ---@return table[] rows of `runs`, with `bytes`: what their journal and output take
  function Store:runs_prunable(opts)
    return exec(self, [[
      SELECT r.*,
        (SELECT coalesce(sum(length(args) + coalesce(length(result), 0)), 0)
          FROM ops WHERE ops.run = r.id)
        + (SELECT coalesce(sum(length(body) + coalesce(length(output), 0)), 0)
          FROM events WHERE events.run = r.id)
        + (SELECT coalesce(sum(length(text)), 0) FROM sources WHERE sources.run = r.id) AS bytes
      FROM (SELECT * FROM runs ORDER BY started DESC LIMIT -1 OFFSET ?1) AS r
      WHERE r.status IN ('done', 'failed', 'rolled_back', 'aborted')
        AND (?2 IS NULL OR r.ended < ?2)
        AND NOT EXISTS (SELECT 1 FROM ledger WHERE ledger.run = r.id AND ledger.state <> 'gone')
        AND NOT EXISTS (SELECT 1 FROM releases WHERE releases.run = r.id
          AND releases.state IN ('serving', 'kept'))
      ORDER BY r.started DESC]], opts.keep, opts.before)
  end

  ---Forgets a run: its journal, its output, its sources, the ledger's rows of what is gone, its
  ---releases that are retired.
  ---@param id string
  function Store:run_forget(id)
    atomic(self, function()
      for _, statement in ipairs {
        "DELETE FROM ops WHERE run = ?1", "DELETE FROM events WHERE run = ?1",
        "DELETE FROM sources WHERE run = ?1", "DELETE FROM runs WHERE id = ?1",
        "DELETE FROM ledger WHERE run = ?1 AND state = 'gone'",
        "DELETE FROM releases WHERE run = ?1 AND state = 'retired'",
      } do exec(self, statement, id) end
    end)
  end

  ---Gives the space of what was forgotten back to the file system.
  ---Raises `store` with cause `locked` while another process reads or writes.
  function Store:shrink()
    exec(self, "VACUUM")
  end
end
