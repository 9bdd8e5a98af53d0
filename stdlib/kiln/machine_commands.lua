---Commands and ports of a machine, or of a recipe's own host: each a journaled operation.
local signature = require "kiln.engine.signature"
local as = require "kiln.ssh.command"
local error_ = require "kiln.error"
local files = require "kiln.machine_files"
local guard = require "kiln.guard"
local lines = require "kiln.machine_lines"
local op = require "kiln.op"
local options = require "kiln.options"
local secret = require "kiln.secret"
local sessions = require "kiln.machine_sessions"

---@class kiln.Machine
local Commands = setmetatable({}, { __index = files })

local known_options = {
  timeout = true, check = true, stdin = true, name = true, user = true, cwd = true, env = true,
  on_line = true, max_output = true,
}

local function check_options(opts)
  for key in pairs(opts) do
    if key == "stdin_file" or key == "pty" or key == "kill" then
      error_.raise { kind = "usage", message = ("machine:run: '%s' is not for a command of a run, "
        .. "which is journaled and goes on without us; upload a file first, or wrap kiln.ssh in an "
        .. "operation of its own (kiln.op)"):format(key) }
    elseif not known_options[key] then
      local names = {}
      for name in pairs(known_options) do names[#names + 1] = name end
      table.sort(names)
      error_.raise { kind = "usage", message = ("machine:run: unknown option '%s'%s")
        :format(tostring(key), options.meant(tostring(key), names)) }
    end
  end
end

---Names a command by its first line. Secrets are redacted first: half of one would not be found.
local function title_of(command)
  if secret.is(command) then command = secret.text(secret.know(command)) end
  local line = secret.redact(command):match("^%s*([^\n]*)")
  return #line > 60 and line:sub(1, 57) .. "..." or line
end

---Runs the command under its guard, and reads its result, over as many connections as that takes.
local function perform(self, command, opts, title, token, in_doubt)
  local shell_text, env = as.hide(command, opts.env)
  local text = opts.user and as.wrap(shell_text, { user = opts.user }) or shell_text
  local within, input = opts.timeout or 300, secret.text(opts.stdin) or ""
  local report, finish = lines.report(self, token, in_doubt, opts.on_line)
  local ok, result = xpcall(sessions.persist, error_.from, self, within, function(session, left)
    return session:run(guard.command(token, text, #input), {
      check = false, stdin = opts.stdin, timeout = left, on_line = report(),
      env = env, cwd = opts.cwd, max_output = opts.max_output,
      kill = false, -- the guard ends it, and knows its group
    })
  end)
  finish(ok and result.truncated)
  if ok then
    return {
      code = result.code, out = result.out, err = result.err, truncated = result.truncated or nil,
    }
  end
  if error_.is(result, "timeout", "cancelled") then
    local session = sessions.kept(self)
    if session then session:run(guard.stop(token), { check = false, timeout = 10 }) end
  end
  if error_.is(result, "timeout") then
    result.message = ("%s: '%s' did not end within %g s and was ended")
      :format(self.name, title, within)
  end
  error(result, 0)
end

local function raise_exit(self, done, title, ending)
  error_.raise {
    kind = "exit", machine = self.name, code = done.code, out = done.out, err = done.err,
    output = done.out .. done.err, message = ("%s: '%s' %s"):format(self.name, title, ending),
  }
end

---A host stays when the run has ended: what the guard kept there goes once the outcome is in the
---journal. When the host cannot be reached for that, a small folder stays.
local function forget(self, token)
  local session = sessions.kept(self)
  if not session or not session:alive() then return end
  local ok, err = xpcall(session.run, error_.from, session, guard.forget(token),
    { check = false, timeout = 10 })
  if not ok and (error_.halts(err) or error_.is(err, "cancelled")) then error(err, 0) end
end

---Tells the lines of a command that an earlier process ran.
local function tell_again(self, done, on_line)
  for _, stream in ipairs { "out", "err" } do
    for line in done[stream]:gmatch("([^\n]*)\n?") do
      if line ~= "" then on_line(line, stream, self.name) end
    end
  end
end

---Runs a shell command, on a machine as root, once: when the connection or kiln dies, the command
---goes on and its result is read later. Raises `exit` (non-zero status), `timeout`, `unreachable`.
---@async
---@param command string|userdata shell text; quote words with `kiln.sh.quote`
---@param opts? { timeout: number?, check: boolean?, stdin: (string|userdata)?, name: string?,
---  user: string?, cwd: string?, env: table<string, string|number|userdata>?, max_output: integer?,
---  on_line: (fun(line: string, stream: "out"|"err", name: string))?, [string]: any }
---  seconds (300); raise on a non-zero exit (true); what the step is called (the command's first
---  line); who runs it (who logs in); folder; variables; bytes kept of each stream (1 MiB); called
---  with each line. A command, a variable or an input that is a secret is in no argv
---@return { code: integer, out: string, err: string, truncated: boolean? } done the end of each
---  stream; `truncated`: there was more
function Commands:run(command, opts)
  opts = opts or {}
  check_options(opts)
  local title, performed = opts.name or title_of(command), nil
  local done = op.call {
    name = ("run %s: %s"):format(self.name, title), class = "once", stands = self.dial ~= nil,
    args = {
      machine = self.id, command = command, stdin = opts.stdin, env = opts.env, cwd = opts.cwd,
      user = opts.user,
    },
    perform = function(token, in_doubt)
      performed = token
      return perform(self, command, opts, title, token, in_doubt)
    end,
  }
  if performed and self.dial then forget(self, performed) end
  if not performed and opts.on_line then tell_again(self, done, opts.on_line) end
  if guard.ends[done.code] then raise_exit(self, done, title, guard.ends[done.code]) end
  if done.code ~= 0 and opts.check ~= false then
    raise_exit(self, done, title, ("ended with status %d"):format(done.code))
  end
  return done
end

---Gives the port that a resumed run was promised, as far as the machine still answers.
local function reopen(self, method, opts, port)
  local ok, result = xpcall(function()
    local again = {}
    for key, value in pairs(opts) do again[key] = value end
    again.port = port
    local session = sessions.of(self, 10)
    return session[method](session, again)
  end, error_.from)
  if ok then return result end
  -- Whoever uses the port finds it closed; this says why.
  return {
    host = opts.host or "127.0.0.1", port = port, failure = function() return result end,
    close = function() end,
  }
end

local function open_port(self, method, opts)
  local live
  local target = ("%s:%d"):format(opts.to_host or "127.0.0.1", opts.to_port)
  local row = op.call {
    name = ("%s %s by %s"):format(method, target, self.name), class = "read", quiet = true,
    args = { machine = self.id, target = target, port = opts.port },
    perform = function()
      live = sessions.persist(self, 60, function(session) return session[method](session, opts) end)
      return { port = live.port }
    end,
  }
  live = live or reopen(self, method, opts, row.port)
  self.on.forwards = self.on.forwards or {}
  table.insert(self.on.forwards, live)
  return live
end

---Listens on a port here that leads to one that only the machine sees: to probe a service that is
---not open to the world, or to reach a database through the machine. It ends with the run at the
---latest. Raises `exists`, `denied`, `unreachable`, `timeout`.
---@async
---@param opts kiln.ssh.ForwardOptions
---@return kiln.ssh.Forward port with `host`, `port`, `failure()` and `close()`
function Commands:forward(opts)
  return open_port(self, "forward", opts)
end

---Has the machine listen on a port that leads to one seen from here. It ends with the run at the
---latest. Raises `denied`, `unreachable`, `timeout`.
---@async
---@param opts kiln.ssh.ForwardOptions
---@return kiln.ssh.Forward
function Commands:listen(opts)
  return open_port(self, "listen", opts)
end

return signature.class("machine", Commands)
