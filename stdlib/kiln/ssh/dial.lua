---Makes a connection from what the caller gave and what the user's files say: which address, which
---keys, which host keys; tries again while the host does not answer yet.
local crypto = require "rt.crypto"
local log = require "rt.log"
local proc = require "rt.proc"
local rt_ssh = require "rt.ssh"
local timer = require "rt.timer"
local config = require "kiln.ssh.config"
local config_jump = require "kiln.ssh.config_jump"
local config_words = require "kiln.ssh.config_words"
local error_ = require "kiln.error"
local identity = require "kiln.ssh.identity"
local known_hosts = require "kiln.ssh.known_hosts"

local dial = {}

---@class kiln.ssh.ConnectOptions
---@field host string name or address, also "user@host" and "ssh://user@host:port"; with `config`,
---  also an alias
---@field port? integer (22)
---@field user? string ("root"; with `config`, what it says)
---@field name? string what messages call the machine (the host)
---@field key? string|userdata|rt.ssh.Key[] text of the private key, a secret, or opened keys
---@field key_file? string path of the private key, instead of `key`
---@field passphrase? string|userdata of the key; without it, a terminal is asked
---@field agent? boolean|string keys of the ssh-agent at $SSH_AUTH_SOCK, or of that path (false)
---@field host_key? string|string[] the host's public key, "ssh-ed25519 AAAA…", or several
---@field known_hosts? boolean|string|string[] instead of `host_key`: the user's files, or paths
---@field config? boolean|string the user's ssh_config, or a path: gives what is not given here,
---  also keys, agent and known_hosts (false)
---@field via? kiln.ssh.Session go through this host, as with ProxyJump; it must stay open
---@field proxy_command? string[] a program and its arguments, run here without a shell; what it
---  reads and writes is the connection, as with ssh's ProxyCommand. "%h", "%p", "%r" and "%n" stand
---  for the host's address, its port, the user and the host as given, "%%" for "%". Instead of what
---  ssh_config says of ProxyJump and ProxyCommand
---@field within? number seconds to go on trying (60)
---@field retry? string[] kinds that are tried again ({ "unreachable", "timeout" }); add "auth" for
---  a machine that accepts the key only late in its boot
---@field keepalive? number seconds between signs of life (15)

local attempt_seconds = 15
local first_pause, longest_pause = 0.1, 1
local refused = 111 -- ECONNREFUSED, errno(3)
local most_keys = 32 -- rt.ssh's; hosts hang up after six
local most_jumps = 16 -- then they go in a circle

local known_options = {
  host = true, port = true, user = true, name = true, key = true, key_file = true,
  passphrase = true, agent = true, host_key = true, known_hosts = true, config = true,
  within = true, retry = true, keepalive = true, via = true, proxy_command = true,
}

local function usage(message, ...)
  error_.raise { kind = "usage", message = message:format(...) }
end

local function check_proxy(words)
  local count, last = 0, 0
  if type(words) == "table" then
    for _ in pairs(words) do count = count + 1 end
    while type(words[last + 1]) == "string" do last = last + 1 end
  end
  if last == 0 or last ~= count then
    usage("ssh.connect: 'proxy_command' is a list of words, a program and its arguments: "
      .. '{ "nc", "%%h", "%%p" }')
  end
end

local function check_options(opts)
  for key in pairs(opts) do
    if not known_options[key] then usage("ssh.connect: unknown option '%s'", key) end
  end
  if type(opts.host) ~= "string" then usage("ssh.connect needs 'host'") end
  if opts.proxy_command ~= nil then
    check_proxy(opts.proxy_command)
    if opts.via then usage("ssh.connect: give 'proxy_command' or 'via', not both") end
  end
  if opts.key == nil and opts.key_file == nil and not opts.agent and not opts.config then
    usage("ssh.connect needs 'key', 'key_file', 'agent' or 'config'")
  end
  if opts.host_key == nil and not opts.known_hosts and not opts.config then
    usage("ssh.connect needs 'host_key', 'known_hosts' or 'config'")
  end
end

local function home()
  return proc.getenv "HOME" or "/"
end

local warned = {}

local function warn_once(text)
  if not warned[text] then log.warn(text) end
  warned[text] = true
end

---What ssh_config says, or what it would say if it were empty.
local function host_config(opts)
  if not opts.config then
    return {
      host = opts.host, user = opts.user or "root", port = opts.port or 22, identity_files = {},
      jumps = {}, known_hosts = { home() .. "/.ssh/known_hosts", home() .. "/.ssh/known_hosts2",
        "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2" }, notes = {},
      identity_agent = proc.getenv "SSH_AUTH_SOCK",
    }
  end
  local told = config.resolve(opts.host, {
    file = opts.config ~= true and opts.config or nil, user = opts.user, port = opts.port,
  })
  if opts.proxy_command then
    told.jumps = {}
  elseif told.proxy_command then
    error_.raise { kind = "unsupported", message = ("%s: ProxyCommand is shell text, which kiln "
      .. "does not run; use ProxyJump, or give its words to ssh.connect: proxy_command = "
      .. '{ "nc", "%%h", "%%p" }'):format(told.proxy_place) }
  end
  for _, note in ipairs(told.notes) do warn_once(note) end
  return told
end

---The options with the host's name alone in `host`: "user@host" and "ssh://user@host:port" taken
---apart. What the caller gives besides counts more.
local function apart(opts)
  local target = config_jump.target(opts.host)
  if target.host == opts.host then return opts end
  local out = {}
  for key, value in pairs(opts) do out[key] = value end
  out.host, out.user, out.port = target.host, opts.user or target.user, opts.port or target.port
  return out
end

---The words of the proxy command with their tokens expanded, as ssh does (ssh_config(5), TOKENS).
---A host or user that begins with "-" would be an option of the program, as for ssh.
local function proxy_words(opts, told)
  if not opts.proxy_command then return nil end
  local tokens = { h = told.host, n = opts.host, r = told.user, p = tostring(told.port) }
  for _, value in pairs(tokens) do
    if value:find("^%-") then
      error_.raise { kind = "invalid", host = told.host,
        message = ("'%s' begins with '-': 'proxy_command' does not take it"):format(value) }
    end
  end
  local words = {}
  for index, word in ipairs(opts.proxy_command) do
    words[index] = config_words.expand(word, tokens, "proxy_command")
  end
  return words
end

local function identities(opts, told)
  if type(opts.key) == "string" or crypto.is_secret(opts.key) then
    return identity.of_text(opts.key, "the key", opts.passphrase)
  elseif opts.key ~= nil then
    local keys = type(opts.key) == "table" and opts.key or { opts.key }
    return { keys = keys, locked = {}, notes = {} }
  end
  local agent = opts.agent
  if agent == nil then agent = (opts.config or false) ~= false and not opts.key_file end
  if agent == true then agent = told.identity_agent end
  local found = identity.gather {
    files = opts.key_file and { opts.key_file } or told.identity_files,
    certificate_files = told.certificate_files, passphrase = opts.passphrase,
    agent = agent or nil,
    only = opts.key_file ~= nil or told.identities_only,
  }
  if #found.keys == 0 and #found.locked == 0 then
    local notes = #found.notes > 0 and ": " .. table.concat(found.notes, "; ") or ""
    error_.raise { kind = opts.key_file and notes == "" and "not_found" or "auth",
      message = ("no private key to log in to %s with (looked at %s%s)%s"):format(opts.host,
        table.concat(opts.key_file and { opts.key_file } or told.identity_files, ", "),
        agent and " and the ssh-agent" or "", notes) }
  end
  return found
end

local function host_keys(opts, told)
  local pins = opts.host_key
  if pins == nil then
    local files = opts.known_hosts
    if type(files) == "string" then files = { files } end
    if type(files) ~= "table" then files = told.known_hosts end
    pins = known_hosts.pins(told.host_key_alias or told.host, told.port, files)
  end
  if not told.revoked_host_keys then return pins end
  return known_hosts.without_revoked(type(pins) == "table" and pins or { pins },
    told.revoked_host_keys, opts.host)
end

local function place(opts, told)
  local where = ("%s:%d"):format(told.host, told.port)
  return opts.name and opts.name ~= opts.host and ("%s (%s)"):format(opts.name, where) or where
end

local function give_up(opts, told, err, within)
  err = error_.from(err)
  err.host = told.host
  err.machine = opts.name
  if error_.is(err, "unreachable", "timeout") then
    err.message = ("%s did not answer SSH within %g s; last: %s")
      :format(place(opts, told), within, err.message)
    err.kind = "unreachable"
  end
  error(err, 0)
end

---Waits before the next attempt. Each caller waits a little differently, so that many whose
---connections sshd dropped together (MaxStartups) do not come back together.
local function back_off(pause)
  timer.sleep(pause * (0.75 + crypto.random(1):byte() / 510))
end

---Returns the pause after an attempt that failed. A port that refuses has no sshd behind it yet: a
---host that boots is found within a tenth of the time that its boot took. Other failures may mean
---that the host is busy: the pause grows faster.
local function next_pause(pause, err, waited)
  local longer = err.code == refused and math.max(first_pause, waited / 10) or pause * 1.5
  return math.min(longer, longest_pause)
end

---Logs in with the keys that are open; if the host takes none, with those that it takes a
---passphrase to open, one after the other.
local function log_in(found, arguments)
  local session, err
  if #found.keys > 0 then
    session, err = rt_ssh.connect(arguments { table.unpack(found.keys, 1, most_keys) })
  end
  while not session and (err == nil or error_.is(err, "auth")) and #found.locked > 0 do
    local keys = identity.unlock(table.remove(found.locked, 1))
    table.move(keys, 1, #keys, #found.keys + 1, found.keys)
    session, err = rt_ssh.connect(arguments(keys))
  end
  return session, err
end

---The connections to the hosts on the way; closed with the block, unless they are kept.
---@class kiln.ssh.Way
---@field sessions rt.ssh.Session[] the nearest first
local Way = {}
Way.__index = Way

---Closes them, the farthest first.
function Way:close()
  for index = #self.sessions, 1, -1 do self.sessions[index]:close() end
  self.sessions = {}
end

function Way:__close()
  if not self.kept then self:close() end
end

---Gives the farthest one.
---@return rt.ssh.Session?
function Way:last()
  return self.sessions[#self.sessions]
end

local make -- for the hosts on the way

---Connects to the hosts on the way, unless that is done and holds. The first host's own ProxyJump
---counts too, as with ssh.
local function go(way, opts, told, deadline, depth)
  if opts.via or #told.jumps == 0 or (way:last() and way:last():alive()) then return end
  way:close()
  if depth >= most_jumps then
    error_.raise { kind = "invalid", message = ("the jumps to %s go in a circle, or are more "
      .. "than %d"):format(opts.host, most_jumps) }
  end
  for _, jump in ipairs(told.jumps) do
    local made = make({
      host = jump.host, user = jump.user, port = jump.port, config = opts.config,
      known_hosts = opts.known_hosts, passphrase = opts.passphrase, keepalive = opts.keepalive,
      within = math.max(deadline - timer.now(), 0.1), retry = opts.retry,
    }, way:last(), depth + 1)
    for _, session in ipairs(made.way.sessions) do table.insert(way.sessions, session) end
    table.insert(way.sessions, made.session)
  end
end

---@class kiln.ssh.Made
---@field session rt.ssh.Session
---@field way kiln.ssh.Way connections that it goes through, closed after it
---@field host string
---@field notes string[]
---@field again rt.ssh.ConnectOptions for another connection of the same kind

---@param opts kiln.ssh.ConnectOptions
---@param through? rt.ssh.Session
---@param depth integer hosts that lead here
---@return kiln.ssh.Made
function make(opts, through, depth)
  local within = opts.within or 60
  local started = timer.now()
  local deadline = started + within
  local told = host_config(opts)
  if through then told.jumps = {} end
  local proxy = proxy_words(opts, told)
  local pins, found = host_keys(opts, told), identities(opts, told)
  local again = opts.retry or { "unreachable", "timeout" }
  local pause = first_pause
  local way <close> = setmetatable({ sessions = {} }, Way)
  local function arguments(keys)
    return {
      host = told.host, port = told.port, user = told.user, key = keys, host_key = pins,
      keepalive = opts.keepalive, via = way:last() or through, proxy_command = proxy,
      timeout = math.min(math.max(deadline - timer.now(), 0.1), attempt_seconds),
    }
  end
  while true do
    go(way, opts, told, deadline, depth)
    local session, err = log_in(found, arguments)
    if session then
      way.kept = true
      return {
        session = session, way = way, host = told.host,
        again = arguments { table.unpack(found.keys, 1, most_keys) },
        notes = table.move(found.notes, 1, #found.notes, #told.notes + 1, told.notes),
      }
    end
    if timer.now() + pause >= deadline or not error_.is(err, table.unpack(again)) then
      give_up(opts, told, err, within)
    end
    back_off(pause)
    pause = next_pause(pause, err, timer.now() - started)
  end
end

---Connects and logs in.
---@async
---@param opts kiln.ssh.ConnectOptions
---@return kiln.ssh.Made
function dial.connect(opts)
  check_options(opts)
  opts = apart(opts)
  return make(opts, opts.via and opts.via:primitive(), 0)
end

---Makes another connection to the same host, with the keys that are open already.
---Raises what `connect` raises.
---@async
---@param made kiln.ssh.Made
---@return rt.ssh.Session
function dial.again(made)
  made.again.timeout = attempt_seconds
  return error_.check(rt_ssh.connect(made.again))
end

return dial
