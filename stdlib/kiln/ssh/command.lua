---Gives a command on a machine its surroundings: variables, folder, user, and a deadline that is
---kept there, also when the connection is gone. All of it is text for the machine's /bin/sh, which
---`rt.exec` has any login shell start.
local crypto = require "rt.crypto"
local error_ = require "kiln.error"
local sh = require "kiln.sh"

local command = {}

---Seconds between SIGTERM and SIGKILL at the deadline.
local grace = 2

---@class kiln.ssh.Surroundings
---@field env? table<string, string|number|userdata> secrets travel by standard input, not in argv
---@field cwd? string folder
---@field user? string who runs it: by runuser as root, else by `sudo -n`
---@field deadline? number seconds after which its process group is ended there, by timeout(1)

local function exports(variables)
  local words = sh.env(variables)
  return words ~= "" and "export " .. words .. "\n" or ""
end

---Text and secrets apart, in shell form.
local function split(env)
  local open, secret = {}, {}
  for name, value in pairs(env or {}) do
    if crypto.is_secret(value) then
      secret[name] = crypto.reveal(value)
    else
      open[name] = value
    end
  end
  return exports(open), exports(secret)
end

local function check_user(user)
  if not user:find("^[%a_][%w_.-]*$") then
    error_.raise { kind = "usage", message = ("'%s' is no name of a user"):format(user) }
  end
end

---Takes a secret command out of the argument list: a variable carries it, as secrets travel.
---@param text string|userdata shell text
---@param env? table<string, string|number|userdata>
---@return string text
---@return table<string, string|number|userdata>? env
function command.hide(text, env)
  if not crypto.is_secret(text) then return text, env end
  local more = { KILN_COMMAND = text }
  for name, value in pairs(env or {}) do more[name] = value end
  return 'kiln_command=$KILN_COMMAND; unset KILN_COMMAND; eval "$kiln_command"', more
end

---Wraps a command. What is returned second goes before the command's standard input.
---Raises `usage` for a name that is no user's, `invalid` for one that is no variable's.
---@param text string shell text
---@param around kiln.ssh.Surroundings
---@return string text
---@return userdata? input a secret
function command.wrap(text, around)
  local open, secret = split(around.env)
  local folder = around.cwd and ("cd -- %s || exit\n"):format(sh.quote(around.cwd)) or ""
  -- The exact number of bytes: what follows is the command's own input. Without its end, as when
  -- the connection is lost on the way, nothing runs.
  if secret ~= "" then secret = secret .. ": whole" end
  local prelude = secret ~= "" and ('v=$(head -c %d)\ncase $v in *": whole") eval "$v" ;; '
    .. "*) exit 255 ;; esac\nunset v\n"):format(#secret) or ""
  local whole = prelude .. open .. folder .. text
  local limit = around.deadline and { "timeout", "-k", grace, ("%g"):format(around.deadline) } or {}
  if around.user then
    check_user(around.user)
    -- The deadline is kept as that user, who alone may end what runs.
    local words = sh.join(table.move({ "sh", "-c", whole }, 1, 3, #limit + 1, limit))
    local user = around.user
    whole = ("if [ \"$(id -u)\" = 0 ]; then\n  export HOME=~%s USER=%s LOGNAME=%s\n"
      .. "  exec runuser -u %s -- %s\nfi\nexec sudo -n -u %s -- %s"):format(user, user, user, user,
      words, user, words)
  elseif around.deadline then
    whole = "exec " .. sh.join(table.move({ "sh", "-c", whole }, 1, 3, #limit + 1, limit))
  end
  return whole, secret ~= "" and crypto.secret(secret) or nil
end

---Tells whether a result is that of a deadline kept there: timeout(1) ends with 124, or by the
---SIGKILL that it sent.
---@param done { code: integer, signal: string? }
---@return boolean
function command.ended_by_deadline(done)
  return done.code == 124 or done.code == 137 or done.signal == "KILL"
end

return command
