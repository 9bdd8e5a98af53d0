---The store's part on releases: which one serves, which ones are kept.
local timer = require "rt.timer"
local secret = require "kiln.secret"

---Adds the methods to the store's class.
---@param Store table
---@param exec fun(self: kiln.Store, sql: string, ...: any): table[]
---@param atomic fun(self: kiln.Store, body: fun(): any): any
return function(Store, exec, atomic)
  ---Records a release as serving; the one that served becomes kept. Recording it again changes
  ---nothing.
  ---@param row { run: string, service: string, env: string, cloud: string, version: string,
  ---  image: string, colour: string, kept_until: number, data: string } data as JSON
  function Store:release_promote(row)
    local data = secret.redact(row.data) -- for reports and rollbacks, which need no secret
    atomic(self, function()
      self:hold()
      local again = exec(self, [[SELECT id FROM releases WHERE run = ?1 AND service = ?2
        AND env = ?3 AND data = ?4]], row.run, row.service, row.env, data)[1]
      if again then return end
      exec(self, [[UPDATE releases SET state = 'kept', kept_until = ?3 WHERE service = ?1
        AND env = ?2 AND state = 'serving']], row.service, row.env, row.kept_until)
      exec(self, [[INSERT INTO releases (run, service, env, version, image, colour, state, data,
        created, cloud) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'serving', ?7, ?8, ?9)]], row.run,
        row.service, row.env, row.version, row.image, row.colour, data, timer.time(), row.cloud)
    end)
  end

  ---Takes a run's promotion back: the release of before serves again. Fine when there was none.
  ---@param row { run: string, service: string, env: string, before: integer? }
  function Store:release_demote(row)
    atomic(self, function()
      self:hold()
      exec(self, [[DELETE FROM releases WHERE run = ?1 AND service = ?2 AND env = ?3
        AND state = 'serving']], row.run, row.service, row.env)
      if not row.before then return end
      exec(self, "UPDATE releases SET state = 'serving', kept_until = NULL WHERE id = ?1",
        row.before)
    end)
  end

  ---Lets a kept release serve and the serving one be kept, as a rollback does.
  ---@param serving integer id of the release that served
  ---@param kept integer id of the one that serves now
  ---@param kept_until number
  function Store:release_swap(serving, kept, kept_until)
    atomic(self, function()
      self:hold()
      exec(self, "UPDATE releases SET state = 'kept', kept_until = ?2 WHERE id = ?1", serving,
        kept_until)
      exec(self, "UPDATE releases SET state = 'serving', kept_until = NULL WHERE id = ?1", kept)
    end)
  end

  ---Records a release's state.
  ---@param id integer
  ---@param state "retired"
  function Store:release_state(id, state)
    exec(self, "UPDATE releases SET state = ?2 WHERE id = ?1", id, state)
  end

  local function newest(self, service, env, state)
    return exec(self, [[SELECT * FROM releases WHERE service = ?1 AND env = ?2 AND state = ?3
      ORDER BY id DESC LIMIT 1]], service, env, state)[1]
  end

  ---Gives the release that serves.
  ---@param service string
  ---@param env string
  ---@return table?
  function Store:serving(service, env)
    return newest(self, service, env, "serving")
  end

  ---Gives the newest release that is kept for a rollback.
  ---@param service string
  ---@param env string
  ---@return table?
  function Store:kept(service, env)
    return newest(self, service, env, "kept")
  end

  ---Returns the highest number of a service's releases; 0 where none is known.
  ---@param service string
  ---@param env string
  ---@return integer
  function Store:release_serial(service, env)
    return exec(self, [[SELECT coalesce(max(json_extract(data, '$.serial')), 0) AS last
      FROM releases WHERE service = ?1 AND env = ?2]], service, env)[1].last
  end

  ---Lists the releases whose machines are there: serving and kept, of every service.
  ---@param env? string
  ---@return table[]
  function Store:releases(env)
    return exec(self, [[SELECT * FROM releases WHERE state IN ('serving', 'kept')
      AND (?1 IS NULL OR env = ?1) ORDER BY service, state DESC, id DESC]], env)
  end

  ---Returns the id of the project that this state is of; nil before the first thing is made.
  ---@return string?
  function Store:project()
    local row = exec(self, "SELECT * FROM project")[1]
    return row and row.id
  end

  ---Records the project's id, once.
  ---@param id string
  function Store:project_set(id)
    exec(self, [[INSERT INTO project (id) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM project)]], id)
  end

  ---Lists the environments that there were runs or releases in, and the default one.
  ---@return string[] names sorted
  function Store:environments()
    local names = {}
    for index, row in ipairs(exec(self, [[SELECT env FROM runs UNION SELECT env FROM releases
      UNION SELECT 'default' ORDER BY env]])) do names[index] = row.env end
    return names
  end
end
