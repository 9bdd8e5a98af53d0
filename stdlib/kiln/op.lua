---Operations: everything that touches the world, written down before and after.
---
---The journal gets an intent before the world is touched and the outcome after it. A resumed run
---takes recorded outcomes from the journal; an intent without an outcome is settled by the
---operation's class, never assumed done or undone:
---
---  read, idempotent  performed again
---  adopt             `settle` looks the token up first and takes what it finds
---  once              performed again under the same token: the guard on the machine, or `settle`,
---                    makes that safe
local crypto = require "rt.crypto"
local json = require "rt.json"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local cancel_ = require "kiln.run.cancel"
local scope = require "kiln.scope"
local secret = require "kiln.secret"
local trace = require "kiln.trace"

local op = {}

local BYTES = { bytes = "keep" } -- what commands write need not be UTF-8

local classes = { read = true, idempotent = true, adopt = true, once = true }

---@class kiln.OpSpec
---@field name string what is done, on what: "machine app-green-1"
---@field class "read"|"idempotent"|"adopt"|"once"
---@field args? table what it depends on; JSON-able, or secrets; a resumed run must give the same
---@field prepare? fun(token: string): any renders what `perform` sends, before the intent is
---  written; it touches nothing, and when it fails nothing was begun. Never called to undo
---@field perform fun(token: string, in_doubt: boolean?, prepared: any): any touches the world; its
---  result must be JSON-able, or secrets; `in_doubt`: an earlier process may have begun it
---@field settle? fun(token: string): any finds what an interrupted `perform` made, or nil
---@field unmake? fun(token: string) removes what `perform` may have left when it failed, or when
---  the run is aborted there; then instead of `settle`
---@field stands? boolean it may change something that kiln did not make: no undo takes that back
---@field ledger? boolean it is a creation that has a row in the ledger, by its token
---@field detail? fun(result: any): string? text for the step's line
---@field quiet? boolean not shown unless it fails

---Gives the key of the next operation of the running task: its path and ordinal.
local function next_key(state)
  state.ordinal = (state.ordinal or 0) + 1
  return state.path .. "#" .. state.ordinal
end

---The name that whatever this operation creates is found by: lower-case, unique to run, key and
---attempt (an operation that failed is tried again where the run was kept to go on).
local function token_of(run, key, attempt)
  local text = attempt > 0 and key .. "+" .. attempt or key
  return "kl-" .. run.id .. "-" .. crypto.sha256(text):sub(1, 8)
end

local function emit(run, spec, kind, key, fields)
  fields.type = kind
  fields.key = key
  fields.name = spec.name
  fields.class = spec.class
  fields.quiet = spec.quiet or nil
  run:emit(fields)
end

local asking_seconds = 65 -- a command that a secret comes from may take a minute

---Puts the secrets back into a value of the journal. One that this process does not know yet was
---asked for by another task before the value was written: that task asks for it again, so it is
---waited for. When nobody asks, the run stops where it is.
local function unsealed(run, value)
  local state, deadline = scope.state(), timer.now() + asking_seconds
  local replaying = state.replaying
  while true do
    local ok, result = xpcall(secret.unseal, error_.from, value)
    if ok or not result.unknown_secret then state.replaying = replaying end
    if ok then return result end
    if not result.unknown_secret then error(result, 0) end
    state.replaying = true -- a cancel meanwhile waits until the recipe has the outcome
    if state.path == "/" or timer.now() >= deadline then
      run:halt(error_.new { kind = "stopped", message = result.message .. "; resume with the "
        .. "recipe and the secrets that the run began with, and look who wrote .kiln" })
    end
    timer.sleep(0.02)
  end
end

---Tells whether arguments differ only in which secrets were known when they were written down.
local function same_unsealed(run, kept, args)
  if not kept:find("\\u0001", 1, true) and not secret.knows_any() then return false end
  local ok, open = xpcall(unsealed, error_.from, run, json.decode(kept, BYTES))
  if not ok and error_.halts(open) then error(open, 0) end
  return ok and json.encode(secret.seal(open), BYTES)
    == json.encode(secret.seal(args or {}), BYTES)
end

---Refuses a journal that does not match the recipe's course.
local function check_course(run, row, spec, digest, args, key)
  local named = row.name == spec.name or row.name == secret.redact(spec.name)
  if named and (row.digest == digest or same_unsealed(run, row.args, spec.args)) then return end
  local message, lines
  if not named then
    message = ("the journal has '%s', the recipe now asks for '%s'"):format(row.name, spec.name)
  else
    message = ("'%s' has other arguments than in the journal"):format(spec.name)
    lines = require("kiln.run.difference").lines(row.args, args)
  end
  run:diverge(key, message, lines)
end

---Writes the intent. An operation that is tried again has a row already.
local function intend(run, key, row, spec, digest, args)
  if row then
    run.store:op_begin_again(run.id, key)
  else
    run.store:op_intent(run.id, key, secret.redact(spec.name), spec.class, digest, args)
  end
end

---Notes what a failure would have to undo: whether the world was touched at all, and whether by
---something that no cleanup is responsible for.
local function touch(run, spec, state)
  if spec.class == "read" then return end
  run.touched = true
  run.standing = run.standing or not (spec.stands or spec.ledger or state.ensured)
end

---Notes an effect that no undo of kiln's takes back, unless it is one of an undo itself.
---@param err? kiln.Error what it ended with
local function note_standing(run, spec, err)
  if not spec.stands or err and err.effect == "none" or scope.state().cleanup then return end
  run.stands = run.stands or {}
  table.insert(run.stands, secret.redact(spec.name))
end

---Stops the run with an operation in doubt: its intent stays open, and a resume settles it. What
---nobody will know another time either is raised, unless the user can see to it.
---@param why kiln.Error why nobody knows
---@param err kiln.Error what happened before
local function stop_in_doubt(run, spec, why, err)
  if error_.halts(why) then run:halt(why) end
  local by_hand = spec.ledger and error_.is(why, "in_doubt")
  if not by_hand and not error_.may_pass(why) then error(why, 0) end
  local more = why.message ~= err.message and "; " .. why.message or ""
  run:halt(error_.new { kind = "stopped",
    message = ("%s: %s%s; whether it took effect is not known yet"):format(spec.name, err.message,
      more) })
end

---Sees to what a failed creation may have left: it is removed, or was refused, so that nothing is
---there. Where neither is known the run stops with the creation in doubt, and a resume settles it.
local function clean(run, spec, token, err)
  if error_.halts(err) or not spec.ledger then return end
  if spec.unmake then
    local ok, why = scope.cleanup(function() spec.unmake(token) end)
    if not ok then stop_in_doubt(run, spec, why, err) end
    return
  elseif error_.is(err, "cancelled") and spec.settle then
    local ok, found = scope.cleanup(function() return spec.settle(token) end)
    if not ok then stop_in_doubt(run, spec, found, err) end
    if found == nil then run.store:ledger_gone(token) end
    return
  elseif err.effect == "none" or error_.is(err, "limit", "unsupported", "usage") then
    run.store:ledger_gone(token)
    return
  end
  stop_in_doubt(run, spec, err, err)
end

---Records that an operation failed, and raises its error.
local function fail(run, spec, key, err, seconds)
  err = error_.from(err)
  if error_.halts(err) then run:halt(err) end
  err.step = err.step or spec.name
  err.op = err.op or key
  note_standing(run, spec, err)
  local kept = secret.redact_fields(error_.plain(err))
  run.store:op_outcome(run.id, key, false, json.encode(kept, BYTES))
  emit(run, spec, "op.fail", key, { seconds = seconds, error = error_.plain(err) })
  cancel_.after_operation(scope.state(), error_.is(err, "cancelled"))
  error(err, 0)
end

---Performs and records the outcome. A stop leaves the intent open for `resume` to settle.
---@param in_doubt boolean the intent is of an earlier process
---@param prepared any what `prepare` rendered, where there was no intent yet
local function perform(run, spec, key, row, in_doubt, prepared)
  local state = scope.state()
  local token = token_of(run, key, row and row.attempt or 0)
  local operation = { key = key, token = token, name = spec.name }
  local started = timer.now()
  emit(run, spec, "op.start", key, {})
  local outer = state.operation
  state.operation = operation
  touch(run, spec, state)
  local ok, result = xpcall(function()
    if in_doubt and spec.settle then
      local found = spec.settle(operation.token)
      if found ~= nil then return found end
    end
    if in_doubt and spec.prepare then prepared = spec.prepare(operation.token) end
    return spec.perform(operation.token, in_doubt, prepared)
  end, trace.handler)
  if not ok then
    local known, doubt = xpcall(clean, error_.from, run, spec, token, result)
    if not known then result = doubt end
  end
  state.operation = outer
  local seconds = timer.now() - started

  if ok then
    run.store:op_outcome(run.id, key, true, json.encode({ value = secret.seal(result) }, BYTES))
    note_standing(run, spec)
    emit(run, spec, "op.done", key,
      { seconds = seconds, detail = spec.detail and spec.detail(result) })
    cancel_.after_operation(state, false)
    return result
  end
  fail(run, spec, key, result, seconds)
end

---Begins an operation that the journal does not have, or another attempt: what it sends is rendered
---first. When that fails, the journal gets the failure as the outcome, so that a resumed run takes
---the same course.
local function begin(run, spec, key, row, digest, args)
  local ok, prepared = true, nil
  if spec.prepare then
    local token = token_of(run, key, row and row.attempt or 0)
    ok, prepared = xpcall(spec.prepare, trace.handler, token)
  end
  if not ok then
    prepared = error_.from(prepared)
    if error_.halts(prepared) then run:halt(prepared) end
    prepared.effect = "none"
  end
  intend(run, key, row, spec, digest, args)
  if not ok then fail(run, spec, key, prepared, 0) end
  return perform(run, spec, key, row, false, prepared)
end

---Returns the recorded outcome, or raises it.
local function recorded(run, spec, row, key)
  if row.state == "failed" then
    local err = error_.new(json.decode(row.error, BYTES))
    note_standing(run, spec, err)
    emit(run, spec, "op.fail", key, { replayed = true, error = err })
    err.replayed = true
    error(err, 0)
  end
  note_standing(run, spec)
  local result = json.decode(row.result, BYTES).value
  if row.result:find("\\u0001", 1, true) then result = unsealed(run, result) end
  if result == json.null then result = nil end
  emit(run, spec, "op.done", key,
    { replayed = true, seconds = 0, detail = spec.detail and spec.detail(result) })
  return result
end

---Takes an outcome from the journal. A cancel meanwhile waits until the recipe has it.
local function replay(run, spec, row, key)
  local state = scope.state()
  touch(run, spec, state)
  state.replaying = true
  local ok, result = xpcall(recorded, error_.from, run, spec, row, key)
  state.replaying = nil
  cancel_.come(state)
  if not ok then error(result, 0) end
  return result
end

---The first operation without an outcome of an aborting run, or of a task that another one's
---decision cancelled: what an interrupted one made is removed, or taken over so that it can be
---undone; then the recipe gets a `cancelled` error.
local function cancel(run, spec, row, key, digest, args, err)
  local began = row and row.state == "intent"
  local token = began and token_of(run, key, row.attempt)
  local look = began and (spec.unmake or spec.settle)
  local state = scope.state()
  local outer, doomed = state.operation, state.doomed
  state.operation = { key = key, token = token, name = spec.name }
  state.doomed, state.due = nil, nil
  local ok, found = scope.cleanup(function() return look and look(token) end)
  state.operation = outer
  if not ok then
    local known, doubt = xpcall(stop_in_doubt, error_.from, run, spec, found, err)
    if not known then fail(run, spec, key, doubt, 0) end
  end
  if spec.unmake then
    found = nil
  elseif spec.ledger and began and found == nil then
    run.store:ledger_gone(token)
  end
  if not began then
    intend(run, key, row, spec, digest, args)
    err.effect = "none"
  end
  if found ~= nil and found ~= false then -- the next operation is the one to cancel
    run.abort_pending = run.abort_pending or err.abort
    state.doomed = doomed or state.cancelled
    run.store:op_outcome(run.id, key, true, json.encode({ value = secret.seal(found) }, BYTES))
    return found
  end
  state.cancelled = nil
  run.store:op_outcome(run.id, key, false, json.encode(error_.plain(err), BYTES))
  error(err, 0)
end

---Runs an operation. Inside a run it is journaled; inside another operation's `perform`, or outside
---any run, it is simply performed.
---Raises what `perform` raises, `diverged`, and `stopped` when the run is told to stop.
---@async
---@param spec kiln.OpSpec
---@return any result
function op.call(spec)
  assert(classes[spec.class], "an operation's class is read, idempotent, adopt or once")
  local state = scope.state()
  local run = state.run
  scope.check_loaded(spec.name)
  if state.operation or not run then
    local token = state.operation and state.operation.token
      or "kl-" .. crypto.hex(crypto.random(8))
    return spec.perform(token, nil, spec.prepare and spec.prepare(token))
  end

  cancel_.check(state)
  local key = next_key(state)
  local args = json.encode(secret.seal(spec.args or {}), BYTES)
  local digest = crypto.sha256(args)
  local row = run.store:op(run.id, key)
  if row then
    check_course(run, row, spec, digest, args, key)
    if row.state == "done" or row.state == "failed" then
      if row.state == "failed" and row.error:find('"kind":"cancelled"', 1, true) then
        state.doomed, state.due = nil, nil -- it was cancelled here: what follows is its cleanup
      end
      return replay(run, spec, row, key)
    end
  end
  if state.doomed and not state.cleanup then
    if run:checkpoint() then run.abort_pending = true end -- it is for another task
    return cancel(run, spec, row, key, digest, args, error_.new { kind = "cancelled",
      message = "another task of the block decided" })
  end
  if run:checkpoint() then
    return cancel(run, spec, row, key, digest, args, error_.new { kind = "cancelled",
      message = "the run was aborted", abort = true })
  end
  scope.put_off()
  if row and row.state == "intent" then return perform(run, spec, key, row, true) end
  return begin(run, spec, key, row, digest, args)
end

---Cleans up. What fails there is open again in the journal: the run stops, a resume tries it again.
local function clean_up(state, cleanup, path, err)
  local ok, failure = scope.cleanup(cleanup, path)
  if ok then return end
  if error_.halts(failure) then error(failure, 0) end
  if err then
    failure.message = ("%s; cleaning up failed too: %s"):format(err.message, failure.message)
  end
  if state.run and failure.op and error_.may_pass(failure) then state.run:leave_open { failure } end
  failure.undone = false
  error_.note_open(failure, failure)
  error(failure, 0)
end

---Runs `body`, then `cleanup` whether it succeeded or failed; an error of `body` is raised with
---`undone = true`. A stopped run skips the cleanup: its resume comes back to it; so does a failed
---one that is kept (--on-error keep).
---@async
---@generic T
---@param body fun(): T
---@param cleanup fun()
---@return T
function op.ensure(body, cleanup)
  local state, path = scope.state(), scope.cleanup_path()
  local outer = state.ensured
  state.ensured = true
  local result = table.pack(xpcall(body, trace.handler))
  state.ensured = outer
  local err = not result[1] and error_.from(result[2])
  if err and error_.halts(err) then error(err, 0) end
  if err and state.run and state.run:keeps(err) then error(err, 0) end
  clean_up(state, cleanup, path, err)
  if err then
    if err.undone == nil then err.undone = true end
    error(err, 0)
  end
  cancel_.after_cleanup(state)
  return table.unpack(result, 2, result.n)
end

return op
