---A machine as recipes see it: commands and files over SSH, each a journaled operation.
local timer = require "rt.timer"
local as = require "kiln.ssh.command"
local error_ = require "kiln.error"
local guard = require "kiln.guard"
local lines = require "kiln.machine_lines"
local files = require "kiln.machine_files"
local machine_keys = require "kiln.machine_keys"
local op = require "kiln.op"
local scope = require "kiln.scope"
local secret = require "kiln.secret"
local sessions = require "kiln.machine_sessions"

local machine = { close_all = sessions.close_all }

---@class kiln.Machine
---@field id string
---@field name string
---@field address string
---@field image string
---@field row table what the provider said, and the pinned host key
---@field private on kiln.Run
local Machine = setmetatable({}, { __index = files })
Machine.__index = Machine

---Makes the object of a machine's row.
---@param run kiln.Run
---@param row table
---@return kiln.Machine
function machine.new(run, row)
  return setmetatable({
    on = run, row = row, id = row.id, name = row.name, address = row.address, image = row.image,
  }, Machine)
end

local function cloud_init_result(self, session, within)
  local answer = session:run("cloud-init status --wait --long 2>&1", {
    check = false, timeout = within,
  })
  local state = answer.out:match("status: (%S+)") or "unknown"
  if state == "done" or state == "disabled" then return end
  local log = session:run("tail -n 5 /var/log/cloud-init.log /var/log/cloud-init-output.log 2>&1", {
    check = false, timeout = 10,
  })
  error_.raise {
    kind = "exit", machine = self.name, output = answer.out .. log.out,
    message = ("cloud-init of %s ended with status %s"):format(self.name, state),
  }
end

---Waits until the machine is ready: it has an address, SSH answers with the pinned key, cloud-init
---has finished without error.
---@async
---@param opts? { within: number? } seconds (180)
---@return kiln.Machine self
function Machine:ready(opts)
  local within = opts and opts.within or 180
  local row = op.call {
    name = "ready " .. self.name, class = "read", args = { id = self.id }, quiet = true,
    perform = function()
      local deadline = timer.now() + within
      local driver = self.on.cloud.driver
      local now = driver.await_machine and driver:await_machine(self.id, within)
        or driver:machine(self.id)
      while now and (now.state == "new" or (now.address or "") == "") do
        if timer.now() > deadline then
          error_.raise { kind = "timeout", machine = self.name,
            message = ("%s got no address within %g s"):format(self.name, within) }
        end
        timer.sleep(0.5)
        now = driver:machine(self.id)
      end
      if not now or now.state == "stopped" then
        error_.raise { kind = "unreachable", machine = self.name,
          message = ("%s is %s"):format(self.name, now and "switched off" or "gone") }
      end
      self.address = now.address
      sessions.persist(self, within, function(session, left)
        cloud_init_result(self, session, left)
      end)
      return { address = now.address }
    end,
  }
  self.address, self.row.address = row.address, row.address
  return self
end

---Names a command by its first line. Secrets are redacted first: half of one would not be found.
local function title_of(command)
  if secret.is(command) then command = secret.text(secret.know(command)) end
  local line = secret.redact(command):match("^%s*([^\n]*)")
  return #line > 60 and line:sub(1, 57) .. "..." or line
end

---Runs a shell command as root, once: when the connection or kiln dies, the command goes on and its
---result is read later. Raises `exit` (non-zero status), `timeout`, `unreachable`.
---@async
---@param command string|userdata shell text; quote words with `kiln.sh.quote`
---@param opts? { timeout: number?, check: boolean?, stdin: (string|userdata)?, name: string?,
---  user: string?, cwd: string?, env: table<string, string|number|userdata>? } seconds (300); raise
---  on a non-zero exit (true); what the step is called (the command's first line); who runs it
---  (root); folder;
---  variables. A command, a variable or an input that is a secret is in no argv
---@return { code: integer, out: string, err: string } done
function Machine:run(command, opts)
  opts = opts or {}
  local within = opts.timeout or 300
  local title, input = opts.name or title_of(command), secret.text(opts.stdin) or ""
  local shell_text, env = as.hide(command, opts.env)
  local done = op.call {
    name = ("run %s: %s"):format(self.name, title), class = "once",
    args = {
      machine = self.id, command = command, stdin = opts.stdin, env = opts.env, cwd = opts.cwd,
      user = opts.user,
    },
    perform = function(token, in_doubt)
      local text = opts.user and as.wrap(shell_text, { user = opts.user }) or shell_text
      local report = lines.report(self, token, in_doubt)
      local ok, result = xpcall(sessions.persist, error_.from, self, within, function(session, left)
        return session:run(guard.command(token, text, #input), {
          check = false, stdin = opts.stdin, timeout = left, on_line = report(),
          env = env, cwd = opts.cwd, kill = false, -- the guard ends it, and knows its group
        })
      end)
      if ok then return { code = result.code, out = result.out, err = result.err } end
      if error_.is(result, "timeout", "cancelled") then
        local session = self.on.sessions[self.id]
        if session then session:run(guard.stop(token), { check = false, timeout = 10 }) end
      end
      if error_.is(result, "timeout") then
        result.message = ("%s: '%s' did not end within %g s and was ended")
          :format(self.name, title, within)
      end
      error(result, 0)
    end,
  }
  if guard.ends[done.code] then
    error_.raise {
      kind = "exit", machine = self.name, code = done.code, output = done.out .. done.err,
      message = ("%s: '%s' %s"):format(self.name, title, guard.ends[done.code]),
    }
  end
  if done.code ~= 0 and opts.check ~= false then
    error_.raise {
      kind = "exit", machine = self.name, code = done.code, output = done.out .. done.err,
      message = ("%s: '%s' ended with status %d"):format(self.name, title, done.code),
    }
  end
  return done
end

---Gives the port that a resumed run was promised, as far as the machine still answers.
local function reopen(self, opts, port)
  local ok, result = xpcall(function()
    local again = {}
    for key, value in pairs(opts) do again[key] = value end
    again.port = port
    return sessions.of(self, 10):forward(again)
  end, error_.from)
  if ok then return result end
  -- Whoever uses the port finds it closed; this says why.
  return {
    host = opts.host or "127.0.0.1", port = port, failure = function() return result end,
    close = function() end,
  }
end

---Listens on a port here that leads to one that only the machine sees: to probe a service that is
---not open to the world, or to reach a database through the machine. It ends with the run at the
---latest. Raises `exists`, `denied`, `unreachable`, `timeout`.
---@async
---@param opts kiln.ssh.ForwardOptions
---@return kiln.ssh.Forward port with `host`, `port`, `failure()` and `close()`
function Machine:forward(opts)
  local live
  local target = ("%s:%d"):format(opts.to_host or "127.0.0.1", opts.to_port)
  local row = op.call {
    name = ("forward %s by %s"):format(target, self.name), class = "read", quiet = true,
    args = { machine = self.id, target = target, port = opts.port },
    perform = function()
      live = sessions.persist(self, 60, function(session) return session:forward(opts) end)
      return { port = live.port }
    end,
  }
  live = live or reopen(self, opts, row.port)
  self.on.forwards = self.on.forwards or {}
  table.insert(self.on.forwards, live)
  return live
end

---Tells the guest to switch itself off: the shortest way where a cloud's own takes longer. Whatever
---goes wrong here, the cloud switches it off.
local function tell_off(self)
  local session = (self.on.sessions or {})[self.id]
  if not session or not session:alive() then return false end
  local ok, err = xpcall(session.run, error_.from, session, "systemctl --no-block poweroff",
    { check = false, timeout = 10 })
  if not ok and error_.is(err, "cancelled", "stopped") then error(err, 0) end
  return ok
end

---Switches the machine off and waits until it is.
---@async
function Machine:power_off()
  op.call {
    name = "power off " .. self.name, class = "idempotent", args = { id = self.id }, quiet = true,
    perform = function()
      local driver = self.on.cloud.driver
      local told = driver.capabilities.guest_power_off and tell_off(self)
      sessions.drop(self)
      driver:power_off(self.id, { told = told })
    end,
  }
end

---Destroys the machine; one that is gone already is fine.
---@async
function Machine:destroy()
  op.call {
    name = "destroy " .. self.name, class = "idempotent", args = { id = self.id }, quiet = true,
    perform = function()
      sessions.drop(self)
      self.on.cloud.driver:destroy_machine(self.id)
      if self.row.token then
        self.on.store:ledger_gone(self.row.token)
        machine_keys.forget(self.on.store.folder, self.row.token)
      end
    end,
  }
end

---Gives what a journal or a release record needs to find the machine again.
---@return table row
function Machine:record()
  local row = self.row
  return {
    id = row.id, name = row.name, address = self.address, image = row.image, token = row.token,
    host_key = row.host_key,
  }
end

---Counts the machine's established connections on a port, from inside. One that cannot be
---reached serves nobody.
local function connections_inside(self, port, within)
  local ok, left = xpcall(sessions.persist, error_.from, self, within, function(session, rest)
    local command = ("ss -Htn state established '( sport = :%d )' | wc -l"):format(port)
    return tonumber(session:run(command, { timeout = math.max(rest, 1) }).out)
  end)
  if ok then return left end
  if error_.is(left, "unreachable", "timeout") then return 0 end
  error(left, 0)
end

---Waits until the machine has no established connection through a front left, or the time is over.
---@async
---@param front kiln.Address|kiln.Balancer
---@param opts? { within: number?, port: integer? } seconds (30); the service's port, for clouds
---  that do not tell the connections of a front (80)
---@return integer left connections
function Machine:drain(front, opts)
  opts = opts or {}
  local within = opts.within or 30
  local told = front.connections and self.on.cloud:can "connections"
  return op.call {
    name = "drain " .. self.name, class = "read", quiet = true,
    args = { machine = self.id, address = front.id },
    perform = function()
      local deadline = timer.now() + within
      local left
      repeat
        left = told and front:connections(self.id)
          or not told and connections_inside(self, opts.port or 80, 10)
        if left == 0 then return 0 end
        timer.sleep(told and 0.1 or 0.5)
      until timer.now() >= deadline
      return left
    end,
  }
end

---Waits for several machines at the same time.
---@async
---@param machines kiln.Machine[]
---@param opts? { within: number? }
function machine.all_ready(machines, opts)
  scope.all(machines, function(one) return one:ready(opts) end)
end

return machine
