---The life of a run: started, stopped, resumed, aborted.
local crypto = require "rt.crypto"
local json = require "rt.json"
local task = require "rt.task"
local timer = require "rt.timer"
local host = require "rt.host"
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"
local locked = require "kiln.run.locked"
local machine_keys = require "kiln.machine_keys"
local project = require "kiln.project"
local provider = require "kiln.provider"
local recipe = require "kiln.recipe"
local remains = require "kiln.run.remains"
local Run = require "kiln.run.object"
local secret = require "kiln.secret"
local secret_declared = require "kiln.secret_declared"
local store_ = require "kiln.store"
local trace = require "kiln.trace"

local run = {}

local lease_seconds = 30

---@class kiln.Outcome
---@field status "done"|"failed"|"kept"|"rolled_back"|"stopped"|"aborted"|"locked"|"usage"
---@field exit integer
---@field run? string
---@field service? string
---@field dir? string the project's folder
---@field result? any what the entry returned
---@field error? kiln.Error
---@field remains? kiln.Remains what the ledger and the journal have of it
---@field stands? string[] operations that changed something that kiln did not make
---@field seconds number
---@field late_abort? true|string it was to be aborted and is done: what could not be taken back
---  (true: the old release had been given up)

local exits = {
  done = 0, failed = 1, rolled_back = 3, stopped = 4, kept = 4, locked = 5, usage = 64, aborted = 0,
}

local function outcome(status, fields)
  local refused = status == "failed" and error_.is(fields.error, "auth", "denied")
    and fields.error.cloud
  fields.status = status
  fields.exit = refused and 7 or exits[status]
  return fields
end

---Loads a recipe without running it.
---@param file string
---@return kiln.Recipe
function run.load(file)
  return recipe.load(file)
end

---Renews the lease until cancelled; a lost lease stops the run before it writes again.
local function keep_lease(self, body)
  while true do
    timer.sleep(self.lease / 3)
    if not self.store:lease_renew(self.lease) then
      self.stopping = true
      body:cancel(error_.new {
        kind = "fenced",
        message = "another kiln took this run's lock over; this one stopped without a write",
      })
      return
    end
  end
end

---Runs the entry in a task of its own, with the lease kept meanwhile.
---@return boolean ok, any result_or_error
local function execute(self, entry)
  local body = task.spawn(function()
    task.locals().scope = { path = "/", children = 0, run = self, body = entry }
    local ended = table.pack(xpcall(entry, trace.handler, self, self.args))
    if not ended[1] then error(ended[2], 0) end
    return table.unpack(ended, 2, ended.n)
  end)
  local stopped = error_.new {
    kind = "stopped", message = "the run was stopped; it can be resumed",
  }
  body:stop_with(stopped)
  self.handle.stop = function()
    self.stopping = true
    body:cancel(stopped)
  end
  local keeper = task.spawn(keep_lease, self, body)
  local ok, result = body:join()
  keeper:cancel()
  keeper:join()
  return ok, result
end

---Tells whether nothing stands of what the run did. Images and addresses outlive releases.
local function left_nothing(self)
  if self.standing or self.stands then return false end
  for _, row in ipairs(self.store:ledger { run = self.id, kind = "machine" }) do
    if row.state ~= "gone" then return false end
  end
  return true
end

local function classify(self, ok, result)
  if ok then return "done" end -- an abort that came too late, too
  if error_.halts(result) then
    local begun = self.touched or self.resumed or not error_.is(result, "auth")
    return begun and "stopped" or "failed"
  end
  local cancelled = result.abort or result.replayed
  if self.aborting and not self.committed and cancelled and result.undone ~= false then
    return "aborted"
  end
  if result.undone then return "rolled_back" end
  if self.on_error == "keep" and result.undone == nil then self:keeps(result) end
  if result.kept and not result.moved_back then return "kept" end
  if self.committed and result.op and error_.may_pass(result) then -- there is no way back: only on
    self.reopen = result.op
    return "stopped"
  end
  local world = result.undone == nil and result.op ~= nil -- not a fault of the recipe
  return world and left_nothing(self) and "rolled_back" or "failed"
end

local function encodable(value)
  local ok, text = pcall(json.encode, secret.redact_fields(value))
  return ok and text or nil
end

---Writes down how the run ended and gives the lease back, in one transaction. When that fails, the
---run is still open in the journal: it is stopped, and its resume records the end.
local function record_end(self, made, text)
  if error_.is(made.error, "fenced") then return made end -- nothing here is ours to write any more
  local event
  local ok, failure = xpcall(self.store.together, error_.from, self.store, function()
    self.store:hold()
    event = self:record {
      type = "run.end", status = made.status, exit = made.exit, seconds = made.seconds,
      late_abort = made.late_abort,
      error = made.error and error_.plain(made.error) or nil,
    }
    local problem = made.error
      and json.encode(error_.plain(made.error), { bytes = "replace" }) or nil
    if self.reopen then self.store:ops_retry(self.id, self.reopen) end
    self.store:run_status(self.id, made.status, problem, text)
    if made.status == "kept" or made.status == "failed" then
      self.store:run_failed_at(self.id, made.error.op or made.error.choice or "")
    end
    self.store:lease_release()
  end)
  if ok then
    self.sink(event)
    return made
  end
  made.status, made.exit, made.result = "stopped", exits.stopped, nil
  made.error = error_.is(made.error, "store") and made.error or failure
  return made
end

---From a made run to its outcome: cloud, entry, status, what remains.
local function conduct(self, loaded, entry)
  local started = timer.now()
  local ok, result = xpcall(function()
    machine_keys.know_all(self.store.folder)
    self:emit {
      type = "run.start", name = self.name, entry = entry, cloud = self.cloud_name,
      args = self.args, resumed = self.resumed or nil, aborting = self.aborting or nil,
    }
    self.cloud = provider.open(self)
  end, error_.from)
  if ok then ok, result = execute(self, loaded.module[entry]) end
  provider.close(self)
  if ok and self.halted then ok, result = false, self.halted end -- the recipe caught it
  if not ok then result = error_.from(result) end
  local status, known, left = classify(self, ok, result), pcall(remains.of, self.store, self.id)
  if known and not ok then status, result = remains.judge(left, status, result) end
  local err = not ok and secret.redact_fields(error_.from(result)) or nil
  local made = outcome(status, {
    run = self.id, service = self.service, dir = self.dir, result = ok and result or nil,
    error = err, remains = known and left or nil, seconds = timer.now() - started,
    late_abort = self.aborting and ok and self.committed or nil, stands = self.stands,
  })
  return record_end(self, made, ok and encodable(result) or nil)
end

local function new_object(opts, store, loaded, fields)
  local self = setmetatable(fields, Run)
  self.store = store
  self.globals = loaded.environment
  self.globals.on_source = function(path, text)
    if not self.edited then store:source_put(self.id, path, text) end -- else all at the checkpoint
  end
  self.secrets = loaded.module.secrets
  self.clouds = loaded.module.clouds
  self.sink = opts.emit or function() end
  self.on_error = opts.on_error or fields.on_error or "cleanup"
  self.ask = opts.ask
  self.handle = { run = self.id, stop = function() self.stopping = true end }
  self.lease = opts.lease or lease_seconds
  self.lease_scope = self.env .. "/" .. self.service
  self.name = self:named()
  return self
end

---Takes the lease, waiting for it as long as the user said. `begin` writes what the run's start
---changes, in one transaction with the lease: a run that finds it taken leaves nothing.
---@return table? holder who has it
local function take_lease(self, opts, begin)
  local deadline = timer.now() + (opts.lock_wait or 0)
  local told = false
  while true do
    local fence, holder
    self.store:together(function()
      fence, holder = self.store:lease_take {
        scope = self.lease_scope, run = self.id, ttl = self.lease,
      }
      if fence then begin() end
    end)
    if fence then return nil end
    if timer.now() >= deadline then return holder end
    if not told and opts.waiting then opts.waiting(locked.message(self, holder)) end
    told = true
    timer.sleep(math.min(0.5, deadline - timer.now()))
  end
end

---Takes the lease and conducts the run, whose end gives the lease back.
local function with_lease(self, loaded, entry, opts, begin)
  local holder = take_lease(self, opts, begin)
  if holder then
    return outcome("locked", {
      run = self.resumed and self.id, service = self.service, seconds = 0,
      error = error_.new {
        kind = "locked", holder = holder,
        message = locked.message(self, holder)
          .. "; wait for it with --lock-wait SECONDS, or stop it there",
      },
    })
  end
  if opts.started then opts.started(self.handle) end
  return conduct(self, loaded, entry)
end

local function guarded(body)
  local ok, value = xpcall(body, trace.handler)
  if ok then return value end
  value = error_.from(value)
  if error_.is(value, "usage") then return outcome("usage", { error = value, seconds = 0 }) end
  return outcome("failed", { error = value, seconds = 0 })
end

---Refuses an environment that is not meant, before anything is made.
local function check_environment(loaded, env, confirm)
  local declared = environment.declared(loaded.module, loaded.file)
  if env == environment.default then return end
  local known = { environment.default }
  if store_.is_there(loaded.dir) then
    local store <close> = store_.open(loaded.dir, { existing = true })
    known = store:environments()
  end
  environment.check {
    env = env, file = loaded.file, declared = declared, known = known, confirm = confirm,
  }
end

---Starts a run and sees it to its end.
---@async
---@param opts { file: string, entry: string?, args: table?, env: string?, cloud: string?,
---  on_error: string?, emit: (fun(event: table))?, started: (fun(handle: table))?,
---  builtin: string?, dir: string?, service: string?, lock_wait: number?, lease: number?,
---  ask: (fun(err: kiln.Error): "cleanup"|"keep")?, confirm: (fun(question: string): boolean?)?,
---  waiting: (fun(text: string))? } seconds to wait for the lock (0);
---  `lease`: seconds that the lock outlives its owner's last sign of life (30); `started` gets
---  a handle whose `stop()` ends the run resumable; `builtin` names a recipe of kiln's own
---  ("recipes/rollback.lua"), run in `dir` for `service`; `ask` decides for `on_error` "ask";
---  `confirm` decides whether a new environment is meant (never)
---@return kiln.Outcome
function run.start(opts)
  return guarded(function()
    local loaded
    if opts.builtin then
      local base = opts.builtin:match("([^/]+)$")
      loaded = recipe.load(base, { [base] = host.source(opts.builtin) }, opts.dir or ".")
    else
      loaded = recipe.load(opts.file)
    end
    local entry = recipe.entry(loaded, opts.entry)
    local args = recipe.check_args(loaded, opts.args or {})
    local env = opts.env or environment.default
    check_environment(loaded, env, opts.confirm)
    local looked_up = secret_declared.look_up(loaded.module.secrets, entry, loaded.dir)
    local store <close> = store_.open(loaded.dir, { existing = opts.builtin ~= nil })
    project.restore(loaded.dir, store)
    local self = new_object(opts, store, loaded, {
      id = crypto.hex(crypto.random(4)), dir = loaded.dir, args = args,
      env = env, service = opts.service or loaded.name,
      cloud_name = opts.cloud or "local", looked_up = looked_up,
    })
    return with_lease(self, loaded, entry, opts, function()
      store:run_new {
        id = self.id, recipe = loaded.file:match("([^/]+)$"), entry = entry,
        args = json.encode(secret.seal(args)), env = self.env, cloud = self.cloud_name,
        service = self.service, kiln_version = host.version,
      }
      store:run_on_error(self.id, self.on_error)
      for path, text in pairs(loaded.environment.sources) do
        store:source_put(self.id, path, text)
      end
    end)
  end)
end

---Returns the operations of a failed run's undo that failed, and whether the run failed by one of
---them alone: then it is like one that stopped there.
local function not_undone(row)
  local err = row.status == "failed" and row.error and json.decode(row.error)
  local keys, alone = err and err.not_undone or {}, false
  for _, key in ipairs(keys) do alone = alone or key == row.failed_key end
  return keys, alone
end

---Goes on with a run that stopped or died, from its stored sources and its journal.
local function continue(opts, aborting)
  return guarded(function()
    local store <close> = store_.open(opts.dir or ".", { existing = true })
    store:check_pages()
    local row = store:run(opts.run)
    if not row then
      error_.raise { kind = "usage",
        message = ("no run '%s' here; `kiln runs` lists them"):format(opts.run) }
    end
    if row.status == "done" or row.status == "aborted" or row.status == "rolled_back" then
      error_.raise { kind = "usage", message = ("run %s has ended already: %s")
        :format(row.id, (row.status:gsub("_", " "))) }
    end
    if row.status == "failed" and not aborting then
      error_.raise { kind = "usage",
        message = ("run %s failed, its journal ends there; start a new one, or `kiln abort %s` to "
          .. "remove what it left"):format(row.id, row.id) }
    end
    if row.kiln_version ~= host.version then
      error_.raise { kind = "usage", message = ("run %s was started by kiln %s, this is kiln %s; "
        .. "continue it with that version"):format(row.id, row.kiln_version, host.version) }
    end
    local dir = opts.dir or "."
    local file = (dir == "." and "" or dir .. "/") .. row.recipe
    local loaded = recipe.load(file, not opts.edited and store:sources(row.id) or nil, dir)
    recipe.entry(loaded, row.entry)
    local looked_up = secret_declared.look_up(loaded.module.secrets, row.entry, dir)
    local self = new_object(opts, store, loaded, {
      id = row.id, dir = dir, args = secret.unseal(json.decode(row.args)), env = row.env,
      service = row.service, cloud_name = row.cloud, resumed = true, on_error = row.on_error,
      aborting = aborting or row.status == "aborting", looked_up = looked_up,
    })
    self.edited = opts.edited
    local undo, alone = not_undone(row)
    -- A run that failed is undone from its failure on: nothing is left to cancel.
    self.abort_pending = self.aborting and (alone or not row.failed_key)
      and not store:abort_delivered(row.id)
    return with_lease(self, loaded, row.entry, opts, function()
      if row.status == "kept" and not aborting then
        store:ops_retry(self.id, row.failed_key)
        store:run_failed_at(self.id, nil)
      end
      if alone then store:ops_retry(self.id, row.failed_key) end
      store:ops_retry_undo(self.id, undo)
      store:run_status(self.id, self.aborting and "aborting" or "running")
      store:run_on_error(self.id, self.on_error)
    end)
  end)
end

---Resumes a run.
---@async
---@param opts { run: string, dir: string?, emit: (fun(event: table))?, on_error: string?,
---  started: (fun(handle: table))?, lock_wait: number?, waiting: (fun(text: string))?,
---  ask: (fun(err: kiln.Error): "cleanup"|"keep")?, edited: boolean? } `edited`: the recipe's files
---  of today; they must ask for what the journal has, up to where the run goes on
---@return kiln.Outcome
function run.resume(opts)
  return continue(opts, false)
end

---Aborts a run: it is resumed with a `cancelled` error at the first operation without an outcome,
---so its undo runs.
---@async
---@param opts { run: string, dir: string?, emit: (fun(event: table))?,
---  started: (fun(handle: table))?, lock_wait: number?, waiting: (fun(text: string))? }
---@return kiln.Outcome
function run.abort(opts)
  return continue(opts, true)
end

return run
