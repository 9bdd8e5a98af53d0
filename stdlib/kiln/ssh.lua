---Machines over SSH: waits until one answers, runs commands, moves files; failures name the host
---and show its last words. Knows nothing of runs and journals: recipes use what `run.cloud` gives.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local rt_exec = require "rt.exec"
local timer = require "rt.timer"
local transfer = require "rt.transfer"
local signature = require "kiln.engine.signature"
local command = require "kiln.ssh.command"
local dial = require "kiln.ssh.dial"
local error_ = require "kiln.error"
local fleet = require "kiln.ssh.fleet"
local forward = require "kiln.ssh.forward"
local paths = require "kiln.ssh.paths"
local progress = require "kiln.ssh.progress"
local secret = require "kiln.secret"

local ssh = {}

---A connection to one machine.
---@class kiln.ssh.Session
---@field name string for messages
---@field host string
---@field notes string[] what of the user's configuration or keys was left out, and why
---@field private session rt.ssh.Session
---@field private made kiln.ssh.Made
local Session = {}
Session.__index = Session
Session.__name = "kiln.ssh.Session"

---@class kiln.ssh.RunOptions
---@field timeout? number seconds (300); then the command's process group is ended there
---@field kill? boolean end it at its deadline (true); without, it is only left
---@field check? boolean raise on a non-zero exit (true)
---@field stdin? string|userdata text or a secret
---@field stdin_file? string path here, whose content follows `stdin`
---@field env? table<string, string|number|userdata> variables; a secret is in no argv
---@field cwd? string folder there
---@field user? string who runs it: by runuser as root, else by `sudo -n`
---@field pty? boolean give it a terminal (false): one stream, hung up at its deadline
---@field on_line? fun(line: string, stream: "out"|"err", name: string) called with every line as it
---  comes, and the machine's name
---@field max_output? integer bytes kept of each stream, the last ones (1 MiB)

---Connects and logs in, trying again while the machine does not answer yet. A text alone is a host
---as `ssh` takes it: by the user's ssh_config, known_hosts, keys and agent.
---Raises `unreachable`, `host_key`, `auth`, `unsupported`, `protocol`, `invalid`, `usage`,
---`not_found` (no such key file), `stopped` (while it asked for a passphrase).
---@async
---@param opts kiln.ssh.ConnectOptions|string
---@return kiln.ssh.Session
function ssh.connect(opts)
  if type(opts) == "string" then opts = { host = opts, config = true } end
  local made = dial.connect(opts)
  return setmetatable({
    name = opts.name or opts.host, host = made.host, session = made.session, notes = made.notes,
    made = made,
  }, Session)
end

---Gives the primitive below, for kiln's own library.
---@return rt.ssh.Session
function Session:primitive()
  return self.session
end

---Raises a primitive's error with the machine's name before it.
local function check(self, value, err)
  if value ~= nil or err == nil then return value end
  err = error_.from(err)
  err.host = self.host
  err.machine = self.name
  if self.name ~= self.host then err.message = self.name .. ": " .. err.message end
  error(err, 0)
end

---Gives the last lines that a command printed: of its errors, else of its output.
local function last_lines(done, count)
  local text = done.err:find("%S") and done.err or done.out
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return table.concat(lines, "\n", math.max(#lines - count + 1, 1))
end

---Names a command in messages. Secrets are redacted first: half of one would not be found.
local function shorten(text)
  if secret.is(text) then text = secret.text(secret.know(text)) end
  local first = secret.redact(text):match("^%s*([^\n]*)")
  return #first > 60 and first:sub(1, 57) .. "..." or first
end

local function raise_exit(self, text, done)
  local ending = done.signal and "was ended by signal " .. done.signal
    or "ended with status " .. done.code
  local lines = last_lines(done, 5)
  error_.raise {
    kind = "exit", host = self.host, machine = self.name, code = done.code, signal = done.signal,
    out = done.out, err = done.err, output = lines,
    message = ("%s: '%s' %s%s"):format(self.name, shorten(text), ending,
      lines ~= "" and ": " .. lines or ""),
  }
end

local function run_by_line(self, text, opts, exec_options)
  local channel <close> = check(self, rt_exec.start(self.session, text, exec_options))
  while true do
    local line, stream = channel:read_line()
    if line == nil then break end -- its error comes with the result
    opts.on_line(line, stream, self.name)
  end
  return check(self, channel:result())
end

local known_run_options = {
  timeout = true, kill = true, check = true, stdin = true, stdin_file = true, env = true,
  cwd = true, user = true, pty = true, on_line = true, max_output = true,
}

local late = 5 -- seconds that a deadline kept there may take to be known here

---The command in its surroundings, and the options of rt.exec.
local function prepare(text, opts, kill)
  for key in pairs(opts) do
    if not known_run_options[key] then
      error_.raise { kind = "usage", message = ("run: unknown option '%s'"):format(key) }
    end
  end
  local within = opts.timeout or 300
  local open, env = command.hide(text, opts.env)
  local whole, input = command.wrap(open, {
    env = env, cwd = opts.cwd, user = opts.user, deadline = kill and within or nil,
  })
  if input and opts.stdin then
    local stdin = opts.stdin
    if crypto.is_secret(stdin) then stdin = crypto.reveal(stdin) end
    input = crypto.secret(crypto.reveal(input) .. stdin)
  end
  return whole, {
    stdin = input or opts.stdin, stdin_file = opts.stdin_file, pty = opts.pty,
    timeout = kill and within + late or within, max_output = opts.max_output,
  }
end

---Runs a command by the machine's /bin/sh, in the environment that the user's login shell sets up,
---whichever shell that is. At its deadline its process group is ended there, also when the
---connection is gone by then.
---Raises `exit` (non-zero status, with `code`, `out`, `err` and the last lines in `output`),
---`timeout`, `unreachable`, `not_found` (no such `stdin_file`), `usage`.
---@async
---@param text string|userdata shell text; quote words with `kiln.sh.quote`; a secret is in no argv
---@param opts? kiln.ssh.RunOptions
---@return { code: integer, signal: string?, out: string, err: string, truncated: boolean } done
function Session:run(text, opts)
  opts = opts or {}
  local kill = opts.kill ~= false and not opts.pty -- a terminal hangs up
  local whole, exec_options = prepare(text, opts, kill)
  local started, within = timer.now(), opts.timeout or 300
  local done
  if opts.on_line then
    done = run_by_line(self, whole, opts, exec_options)
  else
    done = check(self, rt_exec.run(self.session, whole, exec_options))
  end
  if kill and timer.now() - started >= within and command.ended_by_deadline(done) then
    check(self, nil, {
      kind = "timeout", out = done.out, err = done.err,
      message = ("%s: '%s' did not end within %g s and was ended there"):format(self.host,
        shorten(text), within),
    })
  end
  if done.code ~= 0 and opts.check ~= false then raise_exit(self, text, done) end
  return done
end

---@class kiln.ssh.UploadOptions
---@field mode? string of a file (its own, without the right of others to write it)
---@field owner? string "user:group" (who logged in)
---@field replace? boolean a folder's old content goes away (false)
---@field resume? boolean what arrived of a file's interrupted upload stays beside the target, and
---  the next one goes on there (false)
---@field exclude? string[] patterns of what of a folder stays here: ".git", "*.o", "/build/"
---@field timeout? number seconds (600)
---@field on_progress? fun(state: kiln.ssh.Progress) called every second and at the end

---Uploads a file, or a folder with everything in it. Written beside the target, checked there by
---sha256, renamed into place; a folder that exists gets the files added.
---Raises `not_found`, `denied`, `limit`, `exists`, `invalid`, `io`, `timeout`, `unreachable`.
---@async
---@param source string path here
---@param target string path on the machine, "~/x" too; folders above it are made; with a `/` at its
---  end, the folder that takes the source under its own name
---@param opts? kiln.ssh.UploadOptions
---@return { bytes: integer, sha256: string } done
function Session:upload(source, target, opts)
  opts = opts or {}
  local stat = error_.check(fs.stat(source))
  target = paths.target(paths.remote(target), source)
  if stat.type == "directory" then
    return check(self, progress.during(opts.on_progress, function(watched)
      return transfer.upload_tree(self.session, {
        source = source, target = target, owner = opts.owner, replace = opts.replace,
        exclude = opts.exclude, timeout = opts.timeout, progress = watched,
      })
    end))
  end
  return check(self, progress.during(opts.on_progress, function(watched)
    return transfer.upload(self.session, {
      source = source, target = target, mode = opts.mode or paths.mode(stat),
      owner = opts.owner, resume = opts.resume, timeout = opts.timeout, progress = watched,
    })
  end))
end

---Writes text or a secret to a file on the machine, the way `upload` does.
---@async
---@param target string path on the machine, "~/x" too; folders above it are made
---@param content string|userdata
---@param opts? { mode: string?, owner: string?, timeout: number? } ("0644"); seconds (600)
---@return { bytes: integer, sha256: string } done
function Session:write(target, content, opts)
  opts = opts or {}
  return check(self, transfer.upload(self.session, {
    content = content, target = paths.remote(target), mode = opts.mode, owner = opts.owner,
    timeout = opts.timeout,
  }))
end

---@class kiln.ssh.DownloadOptions
---@field mode? string of a file, octal (the source's, without its set-id bits)
---@field resume? boolean what arrived of a file's interrupted download stays beside the target, and
---  the next one goes on there (false)
---@field replace? boolean a folder's target goes away; else nothing may be there (false)
---@field exclude? string[] patterns of what of a folder stays there: ".git", "*.o", "/build"
---@field timeout? number seconds (600)
---@field on_progress? fun(state: kiln.ssh.Progress) called every second and at the end

local is_folder = 83 -- of the error for a source that is one

---Downloads a file, or a folder with everything in it, with modes and times. It is checked by the
---machine's sha256, and appears whole or not at all; what a folder holds can't lead out of it.
---Raises `not_found`, `denied`, `limit`, `exists`, `invalid`, `io`, `timeout`, `unreachable`.
---@async
---@param source string path on the machine, "~/x" too
---@param target string path here; with a `/` at its end, the folder that takes it under its own
---  name
---@param opts? kiln.ssh.DownloadOptions
---@return { bytes: integer, sha256: string } done of a folder: of its files; of its stream
function Session:download(source, target, opts)
  opts = opts or {}
  target = paths.target(target, paths.remote(source))
  return check(self, progress.during(opts.on_progress, function(watched)
    local done, err = transfer.download(self.session, {
      source = source, target = target, mode = opts.mode, resume = opts.resume,
      timeout = opts.timeout, progress = watched,
    })
    if done or err.code ~= is_folder then return done, err end
    return transfer.download_tree(self.session, {
      source = source, target = target, replace = opts.replace, exclude = opts.exclude,
      timeout = opts.timeout, progress = watched,
    })
  end))
end

---Listens on a port here that leads to one that the machine sees, over a connection of its own:
---to probe or reach what is not open to the world. Close it: `local port <close> = …`.
---Raises `exists`, `denied`, `io`, `unreachable`, `timeout`.
---@async
---@param opts kiln.ssh.ForwardOptions
---@return kiln.ssh.Forward
function Session:forward(opts)
  return forward.here(self.made, opts)
end

---Has the machine listen on a port that leads to one seen from here, over a connection of its own.
---Raises `denied`, `unreachable`, `timeout`.
---@async
---@param opts kiln.ssh.ForwardOptions
---@return kiln.ssh.Forward
function Session:listen(opts)
  return forward.there(self.made, opts)
end

---Tells whether the connection is there: not closed, and not known to be lost.
---@return boolean
function Session:alive()
  return self.session:alive()
end

---Closes the connection; what still runs on it ends with `cancelled`. May run twice.
function Session:close()
  self.session:close()
  self.made.way:close()
end

Session.__close = Session.close

ssh.all = fleet.run

signature.class("session", Session)

return ssh
