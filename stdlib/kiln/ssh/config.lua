---What the user's ssh_config says of a host: `~/.ssh/config`, then `/etc/ssh/ssh_config`; the first
---value of a keyword wins (ssh_config(5)).
local proc = require "rt.proc"
local config_file = require "kiln.ssh.config_file"
local error_ = require "kiln.error"

local config = {}

---@class kiln.ssh.Jump
---@field host string
---@field user? string
---@field port? integer

---@class kiln.ssh.HostConfig
---@field alias string the name that was asked for
---@field host string name or address to connect to
---@field user string
---@field port integer
---@field identity_files string[] paths to try, in this order
---@field certificate_files string[]
---@field identities_only boolean keys of the agent only if they are among the files'
---@field identity_agent? string path of the agent's socket; nil: none
---@field jumps kiln.ssh.Jump[] hosts to go through, the nearest first
---@field known_hosts string[] paths, the user's files first
---@field host_key_alias? string name that known_hosts has instead of the host's
---@field notes string[] what was left out

---Keys that OpenSSH tries without being told (ssh(1), IdentityFile), less what libssh2 cannot use.
local default_identities = { "~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519" }
local default_known_hosts = { "~/.ssh/known_hosts", "~/.ssh/known_hosts2" }
local default_global = { "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2" }

local function invalid(place, text, ...)
  error_.raise { kind = "invalid", message = ("%s: %s"):format(place, text:format(...)) }
end

local function flag(word, place)
  local value = ({ yes = true, ["true"] = true, no = false, ["false"] = false })[word:lower()]
  if value == nil then invalid(place, "'%s' is neither yes nor no", word) end
  return value
end

local function port_of(word, place)
  local port = word:find("^%d+$") and math.tointeger(tonumber(word))
  if not port or port < 1 or port > 65535 then invalid(place, "'%s' is no port", word) end
  return port
end

---Reads "[user@]host[:port]" or "ssh://…"; an IPv6 address with a port stands in brackets.
---@param text string
---@param place? string for the error
---@return kiln.ssh.Jump
function config.parse_jump(text, place)
  local rest = text:gsub("^ssh://", ""):gsub("/$", "")
  local user, where = rest:match("^(.*)@([^@]*)$")
  where = where or rest
  local host, port = where:match("^%[([^%]]+)%]:?(%d*)$")
  if not host then host, port = where:match("^([^:%s]+):?(%d*)$") end
  if not host and where:find("^[%x:.]+$") then host, port = where, "" end
  if not host or user == "" then
    invalid(place or "ssh", "'%s' is not of the form [user@]host[:port]", text)
  end
  return { host = host, user = user, port = port ~= "" and port_of(port, place or text) or nil }
end

local function parse_jumps(text, place)
  if text:lower() == "none" then return {} end
  local jumps = {}
  for one in text:gmatch("[^,]+") do
    jumps[#jumps + 1] = config.parse_jump(one:match("^%s*(.-)%s*$"), place)
  end
  return jumps
end

local function once(name, read)
  return function(found, words, rest, place)
    if found[name] == nil then found[name] = read(words[1], place, words, rest) end
  end
end

local function word(text) return text end
local function all(_, _, words) return words end

local function each(name)
  return function(found, words)
    local list = found[name] or {}
    for _, known in ipairs(list) do
      if known == words[1] then return end
    end
    list[#list + 1] = words[1]
    found[name] = list
  end
end

---ProxyJump and ProxyCommand: the first of both counts.
local function proxy(name)
  return function(found, _, rest, place)
    if found.proxyjump or found.proxycommand then return end
    found[name] = name == "proxyjump" and parse_jumps(rest, place) or rest
  end
end

---@type table<string, fun(found: table, words: string[], rest: string, place: string)>
local keywords = {
  hostname = once("hostname", word),
  user = once("user", word),
  port = once("port", port_of),
  identityfile = each "identityfile",
  certificatefile = each "certificatefile",
  identitiesonly = once("identitiesonly", flag),
  identityagent = once("identityagent", word),
  userknownhostsfile = once("userknownhostsfile", all),
  globalknownhostsfile = once("globalknownhostsfile", all),
  hostkeyalias = once("hostkeyalias", string.lower),
  proxyjump = proxy "proxyjump",
  proxycommand = proxy "proxycommand",
}

---Expands `~`, `%` tokens and `${VARIABLE}` of a path (ssh_config(5), TOKENS).
local function expand(text, tokens, what)
  local out = text:gsub("^~/", tokens.d .. "/"):gsub("%%(.)", function(letter)
    if not tokens[letter] then
      invalid(what, "kiln does not know the token %%%s in '%s'", letter, text)
    end
    return tokens[letter]
  end)
  return (out:gsub("%${([^}]*)}", function(name)
    local value = proc.getenv(name)
    if not value then invalid(what, "'%s' needs the environment variable %s", text, name) end
    return value
  end))
end

local function expand_all(list, tokens, what)
  local out = {}
  for _, one in ipairs(list) do
    if one:lower() ~= "none" then out[#out + 1] = expand(one, tokens, what) end
  end
  return out
end

local function tokens_of(host, alias, found, home)
  local info = proc.info()
  return {
    ["%"] = "%", h = host, n = alias, r = found.user or info.user, p = tostring(found.port or 22),
    u = info.user, i = tostring(info.uid), l = info.host, L = info.host:match("^[^.]*"), d = home,
    k = found.hostkeyalias or alias,
  }
end

---The path of the agent's socket: IdentityAgent, else $SSH_AUTH_SOCK.
local function agent_of(found, tokens)
  local said = found.identityagent or "SSH_AUTH_SOCK"
  if said == "none" then return nil end
  if said == "SSH_AUTH_SOCK" then said = "$SSH_AUTH_SOCK" end
  local name = said:match("^%$([%w_]+)$")
  local path = name and proc.getenv(name) or not name and expand(said, tokens, "IdentityAgent")
  return path ~= "" and path or nil
end

local function result(alias, found, home, notes)
  -- Names are compared and looked up in lower case; the alias stays as it was given.
  local host = (found.hostname or alias):gsub("%%(.)", { h = alias, ["%"] = "%" }):lower()
  local tokens = tokens_of(host, alias, found, home)
  if found.proxycommand and found.proxycommand:lower() ~= "none" then
    error_.raise { kind = "unsupported", message = ("ssh_config gives %s a ProxyCommand, which "
      .. "kiln does not run; use ProxyJump"):format(alias) }
  end
  local known = expand_all(found.userknownhostsfile or default_known_hosts, tokens,
    "UserKnownHostsFile")
  table.move(expand_all(found.globalknownhostsfile or default_global, tokens,
    "GlobalKnownHostsFile"), 1, 8, #known + 1, known)
  return {
    alias = alias, host = host, user = tokens.r, port = found.port or 22,
    identity_files = expand_all(found.identityfile or default_identities, tokens, "IdentityFile"),
    certificate_files = expand_all(found.certificatefile or {}, tokens, "CertificateFile"),
    identities_only = found.identitiesonly or false,
    identity_agent = agent_of(found, tokens),
    jumps = found.proxyjump or {}, known_hosts = known, host_key_alias = found.hostkeyalias,
    notes = notes,
  }
end

---Resolves a host's name by the user's configuration.
---Raises `invalid` (with file and line), `unsupported` (ProxyCommand), `denied`, `io`.
---@param alias string as given to `ssh`, without a user
---@param opts? { file: string?, user: string?, port: integer?, home: string? } instead of both
---  usual files; what counts more than the files; home folder ($HOME)
---@return kiln.ssh.HostConfig
function config.resolve(alias, opts)
  opts = opts or {}
  local home = opts.home or proc.getenv "HOME" or "/"
  local found, notes = { user = opts.user, port = opts.port }, {}
  local reader = {
    host = alias, home = home,
    note = function(text) notes[#notes + 1] = text end,
    set = function(keyword, words, rest, place)
      local take = keywords[keyword]
      if take then take(found, words, rest, place) end
    end,
  }
  config_file.read(reader, opts.file or home .. "/.ssh/config", home .. "/.ssh")
  if not opts.file then config_file.read(reader, "/etc/ssh/ssh_config", "/etc/ssh") end
  return result(alias, found, home, notes)
end

return config
