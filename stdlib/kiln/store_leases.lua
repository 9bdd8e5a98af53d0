---The store's part on leases: one run at a time for a service of an environment.
---
---Whether the owner of a lease lives can be seen only from its own PID namespace, in the same start
---of the same kernel. There the lease of a dead process is free at once, and it expires by the
---monotonic clock, which nobody can set. From anywhere else (another host, a container, another
---host of the same name) it is free when it has expired by the time of day.
local proc = require "rt.proc"
local timer = require "rt.timer"
local error_ = require "kiln.error"

---Names where a process number counts: a start of a kernel, and a PID namespace in it.
local function place_of(info)
  return info.boot_id .. " " .. info.pid_namespace
end

---Tells whether a lease keeps others out.
local function holds(row, here)
  if row.run == "" then return false end
  if row.host ~= here.host or row.boot_id ~= place_of(here) or here.pid_namespace == "" then
    return row.expires > timer.time()
  end
  if not proc.alive(row.pid, row.pid_started) then return false end
  if row.expires_up == nil then return row.expires > timer.time() end -- of an older kiln
  return row.expires_up > timer.now()
end

---Adds the methods to the store's class.
---@param Store table
---@param exec fun(self: kiln.Store, sql: string, ...: any): table[]
---@param atomic fun(self: kiln.Store, body: fun(): any): any
return function(Store, exec, atomic)
  local function lease_of(self, scope)
    return exec(self, "SELECT * FROM leases WHERE scope = ?1", scope)[1]
  end

  ---Adds what its owner is doing: the last operation without an outcome.
  local function described(self, row)
    local last = exec(self, [[SELECT name FROM ops WHERE run = ?1 AND state = 'intent'
      ORDER BY seq DESC LIMIT 1]], row.run)[1]
    row.doing = last and last.name
    return row
  end

  ---Takes the lease of a scope: free, ours, expired, or of an owner that died. The fencing number
  ---grows with every taking; from then on an older owner's writes are refused.
  ---@param want { scope: string, run: string, ttl: number } seconds
  ---@return integer? fence
  ---@return table? holder run, host, user, pid, since, doing
  function Store:lease_take(want)
    local here, now, up = proc.info(), timer.time(), timer.now()
    local fence, holder
    atomic(self, function()
      local row = lease_of(self, want.scope)
      if row and holds(row, here) then
        holder = described(self, row)
        return
      end
      fence = (row and row.fence or 0) + 1
      exec(self, [[INSERT OR REPLACE INTO leases (scope, run, fence, host, pid, pid_started,
        boot_id, since, expires, expires_up, user)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)]],
        want.scope, want.run, fence, here.host, here.pid, here.start_time, place_of(here), now,
        now + want.ttl, up + want.ttl, here.user)
    end)
    self.lease = fence and { scope = want.scope, run = want.run, fence = fence } or nil
    return fence, holder
  end

  ---Raises `fenced` when the lease of this store's run was taken over: called in every transaction
  ---that says what the run does.
  function Store:hold()
    local lease = self.lease
    if not lease then return end
    local row = lease_of(self, lease.scope)
    if row and row.run == lease.run and row.fence == lease.fence then return end
    error_.raise {
      kind = "fenced",
      message = "another kiln took this run's lock over; this one stopped without a write",
    }
  end

  ---Tells how a run is: its status, or "died" when it should run and nobody holds its lease.
  ---@param row table of `run` or `runs`
  ---@return string
  function Store:state_of(row)
    if row.status ~= "running" and row.status ~= "aborting" then return row.status end
    local lease = lease_of(self, row.env .. "/" .. row.service)
    local alive = lease and lease.run == row.id and holds(lease, proc.info())
    return alive and row.status or "died"
  end

  ---Keeps the lease for another while.
  ---@param ttl number seconds
  ---@return boolean ours false: somebody took it over
  function Store:lease_renew(ttl)
    local lease = self.lease
    return exec(self, [[UPDATE leases SET expires = ?4, expires_up = ?5
      WHERE scope = ?1 AND run = ?2 AND fence = ?3]], lease.scope, lease.run, lease.fence,
      timer.time() + ttl, timer.now() + ttl).changes == 1
  end

  ---Gives the lease back; the fencing number stays.
  function Store:lease_release()
    local lease = self.lease
    exec(self, [[UPDATE leases SET run = '', expires = 0, expires_up = 0
      WHERE scope = ?1 AND run = ?2 AND fence = ?3]], lease.scope, lease.run, lease.fence)
  end
end
