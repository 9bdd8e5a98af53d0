---The `run` that a recipe's entry gets: its cloud, its groups of steps, its undo.
local json = require "rt.json"
local timer = require "rt.timer"
local signature = require "kiln.engine.signature"
local environment = require "kiln.run.environment"
local error_ = require "kiln.error"
local project = require "kiln.project"
local scope = require "kiln.scope"
local secret = require "kiln.secret"
local secret_declared = require "kiln.secret_declared"
local trace = require "kiln.trace"

---@class kiln.Run
---@field id string 8 hexadecimal digits
---@field cloud kiln.Cloud
---@field env string environment, "default" unless -e names one
---@field dir string where the recipe lies; relative paths start there
---@field service string the recipe's name; one run at a time for a service
---@field name string the service's name in its environment: "app", "app-staging"; what kiln makes
---  for it is called so
---@field args table<string, any> the entry's arguments
---@field store table
---@field globals kiln.Environment the recipe's globals and texts
---@field on_error "cleanup"|"keep"|"ask" what a failure leaves
local Run = {}
Run.__index = Run

---Keeps an event for `kiln log` and `kiln show`.
---@param event table see the command line's --json
---@return table event without secrets, for whoever watches
---@package
function Run:record(event)
  local state = scope.state()
  event.v, event.run, event.time = 1, self.id, timer.time()
  event.path = state.path
  event.step = state.step and state.step.id
  if event.type == "op.start" and state.step then state.step.touched = true end
  event = secret.redact_fields(event)
  if event.key and event.replayed then return event end -- the journal told it
  local text = json.encode(error_.plain_fields(event), { bytes = "replace" })
  self.store:event(self.id, event.key, event.type, text)
  return event
end

---Sends an event to whoever watches, and keeps it.
---@param event table
---@package
function Run:emit(event)
  self.sink(self:record(event))
end

---Sends a line that a command printed to whoever watches, and keeps it.
---@param line { stream: "out"|"err", text: string, name: string, key: string? } who printed it; the
---  command's key
---@return string text without secrets, as it is kept
---@package
function Run:line(line)
  local state, text = scope.state(), secret.redact(line.text)
  local event = {
    v = 1, type = "line", run = self.id, time = timer.time(), path = state.path,
    step = state.step and state.step.id, stream = line.stream, text = text, name = line.name,
    key = line.key,
  }
  self.store:output_line(event)
  self.sink(event)
  return text
end

---Gives a function that tells whoever watches how far the operation's transfer is. It is not kept.
---@return (fun(state: kiln.ssh.Progress))? tell nil outside of operations
---@package
function Run:teller()
  local state = scope.state()
  local operation, step, path = state.operation, state.step, state.path
  if not operation then return nil end
  return function(now)
    self.sink(secret.redact_fields {
      type = "progress", v = 1, run = self.id, time = timer.time(), path = path,
      step = step and step.id, key = operation.key, name = operation.name,
      bytes = now.bytes, total = now.total, rate = now.rate, left = now.left,
    })
  end
end

---Prints a line of the recipe's own.
---@param text any shown as `tostring` has it
function Run:note(text)
  self:emit { type = "note", text = tostring(text) }
end

---Raises `stopped` when the run was told to stop.
---@package
function Run:check_stop()
  if not self.stopping then return end
  error_.raise { kind = "stopped", message = "the run was stopped; it can be resumed" }
end

---Decides whether an operation without an outcome may go on: raises `stopped` when the run was told
---to stop, `store` when the journal failed before and the recipe went on, and tells an aborting run
---to cancel here.
---@return boolean cancel
---@package
function Run:checkpoint()
  self:check_stop()
  if self.halted then error(self.halted, 0) end
  if self.store.broken then error(self.store.broken, 0) end
  if self.edited then -- its course has been the journal's up to here: from now on it is the recipe
    self.store:together(function()
      for path, text in pairs(self.globals.sources) do
        self.store:source_put(self.id, path, text)
      end
    end)
    self.edited = nil
  end
  if not self.abort_pending or scope.state().cleanup then return false end
  self.abort_pending = false
  return true
end

---Says that what was done so far is not undone any more: an abort that comes later changes nothing,
---the run goes on to its end. What fails after it and may succeed another time stops the run.
---@param why? string what cannot be taken back (the old release was given up; a kept one can be put
---  into service again)
function Run:commit(why)
  self.committed = why or true
  self.abort_pending = false
end

---Decides, once in a run, whether a failure leaves everything as it is, to be looked at and to go
---on from: as --on-error says, or as the user answers. The decision is durable before it shows.
---@async
---@param err kiln.Error gets `kept = true`
---@return boolean
---@package
function Run:keeps(err)
  if self.aborting then return false end
  if self.on_error == "ask" then
    self.on_error = self.ask and self.ask(err) or "cleanup"
    self.store:run_on_error(self.id, self.on_error)
  end
  err.kept = self.on_error == "keep" or nil
  return err.kept == true
end

---Stops the run: its recipe does not ask for what the journal has. Raises `diverged`, now and for
---whatever the recipe asks for next.
---@param key string
---@param message string
---@param lines? string[] what differs
---@package
function Run:diverge(key, message, lines)
  self:halt(error_.new {
    kind = "diverged", key = key, output = lines and table.concat(lines, "\n"),
    message = ("recipe diverged at operation %s: %s; nothing was done"):format(key, message),
  })
end

---Ends the run with an error that leaves everything as it is, also when the recipe catches that:
---whatever it asks for next raises it again, and the run ends with it.
---@param err kiln.Error
---@package
function Run:halt(err)
  self.halted = self.halted or err
  error(err, 0)
end

---Tells whether the journal has anything of a task.
---@param path string
---@return boolean
---@package
function Run:began(path)
  return #self.store:op_keys_below(self.id, path) > 0
end

---Tells which task of a block the journal says decided, or where a task was cancelled.
---@param key string
---@return integer|string? index
---@package
function Run:chosen(key)
  local row = self.store:op(self.id, key)
  return row and row.state == "done" and json.decode(row.result) or nil
end

---Writes down which task of a block decided, before the others are cancelled, or where one of these
---was cancelled.
---@param key string
---@param index integer|string
---@package
function Run:choose(key, index)
  self.store:together(function()
    if not self.store:op(self.id, key) then
      self.store:op_intent(self.id, key, "choice", "choice", "", "{}")
    end
    self.store:op_outcome(self.id, key, true, json.encode(index))
  end)
end

---Groups operations under one line of the display.
---@async
---@param spec { name: string, perform: (fun(): any, string?), undo: boolean? } `perform` returns
---  its result and the text for the line's end
---@return any result
function Run:step(spec)
  local state = scope.state()
  local outer = state.step
  self.steps = (self.steps or 0) + 1
  local step = { id = self.steps, name = spec.name, parent = outer and outer.id }
  local started = timer.now()
  local function tell(kind, fields)
    fields.type, fields.name, fields.step_id, fields.undo = kind, spec.name, step.id, spec.undo
    fields.replayed = not step.touched or nil
    fields.seconds = kind ~= "step.start" and timer.now() - started or nil
    self:emit(fields)
  end
  tell("step.start", {})
  state.step = step
  local result = table.pack(xpcall(spec.perform, trace.handler))
  state.step = outer
  if outer and step.touched then outer.touched = true end
  if not result[1] then
    local err = error_.from(result[2])
    if error_.is(err, "stopped") then
      tell("step.stop", {})
    else
      err.step = err.in_step or spec.name
      err.in_step = err.step
      tell("step.fail", { error = error_.plain(err) })
    end
    error(err, 0)
  end
  tell("step.done", { detail = type(result[3]) == "string" and result[3] or nil })
  return result[2]
end

---Stops the run with operations open again that failed while they undid something: a resume, or an
---abort, tries them again and goes on from there.
---@param failures kiln.Error[] each with the key of its operation
---@package
function Run:leave_open(failures)
  for _, failure in ipairs(failures) do self.store:ops_retry(self.id, failure.op) end
  self:halt(error_.new { kind = "stopped", message = failures[1].message })
end

---Undoes in reverse; tells in the error what could not be undone. What failed and may succeed
---another time stops the run, when all else is undone. Traffic that does not go back ends it: what
---was done before stays, for the machines that may have that traffic are among it.
local function unwind(self, undos, err)
  local open = {}
  for index = #undos, 1, -1 do
    local undo = undos[index]
    local ok, failure = scope.cleanup(function()
      self:step { name = undo.name, undo = true, perform = undo.action }
    end, undo.path)
    if not ok then
      if error_.halts(failure) then error(failure, 0) end
      err.message = ("%s; undoing '%s' failed too: %s")
        :format(err.message, undo.name, failure.message)
      if failure.op and error_.may_pass(failure) then
        table.insert(open, failure)
      else
        err.undone = false
        error_.note_open(err, failure)
      end
      if undo.always then break end
    end
  end
  if #open == 0 then return end
  open[1].message = err.message
  self:leave_open(open)
end

---Runs `body`; when it fails, undoes in reverse what it told how to undo, then raises its error
---with `undone = true` if every undo succeeded; where one failed and may succeed another time, the
---run stops, to be resumed. A run that was stopped before undoes nothing. Of a failed one that is
---kept, only what was told with `always` is undone: traffic goes back.
---@async
---@param body fun(undo: fun(name: string, action: fun(), opts: { always: boolean? }?)): any
---@param opts? { undone: string? } what is true again after a complete undo: "app still serves v2"
---@return any result
function Run:transaction(body, opts)
  local undos = {}
  local result = table.pack(xpcall(body, trace.handler, function(name, action, how)
    undos[#undos + 1] = {
      name = name, action = action, always = how and how.always, path = scope.cleanup_path(),
    }
  end))
  if result[1] then return table.unpack(result, 2, result.n) end
  local err = error_.from(result[2])
  if error_.halts(err) then error(err, 0) end
  if self:keeps(err) then
    local traffic = {}
    for _, undo in ipairs(undos) do traffic[#traffic + 1] = undo.always and undo or nil end
    unwind(self, traffic, err)
    err.moved_back = #traffic > 0 or nil -- what the journal says is done is no longer so
    error(err, 0)
  end
  err.undone = err.undone ~= false
  err.undone_text = opts and opts.undone
  unwind(self, undos, err)
  error(err, 0)
end

---Gives a secret by name, from where the recipe's `secrets` table says or the environment variable
---KILN_SECRET_<NAME>. The journal never sees its value. Raises `not_found`.
---@async
---@param name string
---@return userdata secret prints as <secret>
function Run:secret(name)
  local value = self.looked_up[name] or secret_declared.take(name, (self.secrets or {})[name],
    self.dir)
  self.looked_up[name] = value
  return value
end

---Returns the name of a service in the run's environment: "app-staging" for "app" with -e staging.
---@param service? string (the recipe's own)
---@return string
function Run:named(service)
  return environment.name(service or self.service, self.env)
end

---Returns the labels that everything carries which this run makes in a cloud. Makes the project's
---id when there is none yet.
---@param more? table<string, string>
---@return table<string, string>
function Run:labels(more)
  if not self.project_id then
    local new
    self.project_id, new = project.ensure(self.dir, self.store)
    if new then
      self:emit { type = "hint", text = "kiln.project is new: commit it, so that every checkout "
        .. "knows this project's machines" }
    end
  end
  local labels = { kiln_project = self.project_id, kiln_env = self.env }
  for key, value in pairs(more or {}) do labels[key] = value end
  return labels
end

---Returns the label that the machines of a service carry, in this environment and project alone:
---what databases and firewalls let in by.
---@param name? string the service's in its environment (`run.name`)
---@return string
function Run:owner_label(name)
  return ("%s-%s"):format(self:labels().kiln_project, name or self.name)
end

---Gives the path of a file that the recipe names.
---@param name string absolute, or below the recipe's folder
---@return string
function Run:path(name)
  if name:sub(1, 1) == "/" or self.dir == "." then return name end
  return self.dir .. "/" .. name
end

return signature.class("run", Run)
