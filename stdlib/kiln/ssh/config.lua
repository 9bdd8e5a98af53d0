---What the user's ssh_config says of a host: `~/.ssh/config`, then `/etc/ssh/ssh_config`; the first
---value of a keyword wins (ssh_config(5)). Equal to what `ssh -G` says, or an error.
local proc = require "rt.proc"
local config_canonical = require "kiln.ssh.config_canonical"
local config_file = require "kiln.ssh.config_file"
local config_jump = require "kiln.ssh.config_jump"
local config_words = require "kiln.ssh.config_words"
local error_ = require "kiln.error"
local keywords = require "kiln.ssh.config_keywords"

local config = {}

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
---@field proxy_command? string shell text of ProxyCommand, its tokens not expanded
---@field proxy_place? string "file:line" of it
---@field known_hosts string[] paths, the user's files first
---@field revoked_host_keys? string path of the keys that no host may show
---@field host_key_alias? string name that known_hosts has instead of the host's
---@field tokens table<string, string> what "%h" and the like stand for, by letter
---@field notes string[] what was left out

---Keys that OpenSSH tries without being told (ssh(1), IdentityFile), less what libssh2 cannot use.
local default_identities = { "~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519" }
local default_known_hosts = { "~/.ssh/known_hosts", "~/.ssh/known_hosts2" }
local default_global = { "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2" }

local function invalid(place, text, ...)
  error_.raise { kind = "invalid", message = ("%s: %s"):format(place, text:format(...)) }
end

local function flag(word) return word:lower() == "yes" or word:lower() == "true" end

local function number(word) return math.tointeger(tonumber(word)) end

local function once(name, read)
  return function(found, words, rest, place)
    if found[name] == nil then found[name] = read(words[1], place, words, rest) end
  end
end

local function word(text) return text end

local function all(_, place, words)
  for _, one in ipairs(words) do
    if #words > 1 and one:lower() == "none" then invalid(place, "'none' stands alone") end
  end
  return words
end

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

---ProxyJump and ProxyCommand: the first of both counts, but a command comes after "ProxyJump none".
local function proxy_jump(found, _, rest, place)
  local jumps = config_jump.list(rest, place)
  if not found.proxyjump and not found.proxycommand then found.proxyjump = jumps end
end

local function proxy_command(found, _, rest, place)
  if found.proxycommand or (found.proxyjump and #found.proxyjump > 0) then return end
  found.proxycommand, found.proxy_place = rest:gsub("^[ \t=]+", ""), place
end

---@type table<string, fun(found: table, words: string[], rest: string, place: string)>
local honoured = {
  hostname = once("hostname", word),
  user = once("user", word),
  port = once("port", number),
  identityfile = each "identityfile",
  certificatefile = each "certificatefile",
  identitiesonly = once("identitiesonly", flag),
  identityagent = once("identityagent", word),
  userknownhostsfile = once("userknownhostsfile", all),
  globalknownhostsfile = once("globalknownhostsfile", all),
  revokedhostkeys = once("revokedhostkeys", word),
  hostkeyalias = once("hostkeyalias", string.lower),
  proxyjump = proxy_jump,
  proxycommand = proxy_command,
  ignoreunknown = once("ignoreunknown", word),
  tag = once("tag", word),
  canonicalizehostname = once("canonicalizehostname", string.lower),
  canonicaldomains = once("canonicaldomains", all),
  canonicalizemaxdots = once("canonicalizemaxdots", number),
  canonicalizefallbacklocal = once("canonicalizefallbacklocal", flag),
  canonicalizepermittedcnames = once("canonicalizepermittedcnames", all),
}

---Notes a line with an effect that kiln does not honour, the first of its keyword.
local function note(found, keyword, rest, place)
  local harmless = keywords.left_out[keyword]
  if not harmless or found.noted[keyword] then return end
  found.noted[keyword] = true
  local value = rest:gsub('"', ""):gsub("^[ \t=]+", "")
  for _, pattern in ipairs(harmless) do
    if value:lower():find("^" .. pattern .. "$") then return end
  end
  local text = "%s: kiln does not honour '%s %s'"
  found.notes[#found.notes + 1] = text:format(place, keyword, value)
end

---Expands `~`, tokens and `${VARIABLE}` of a path (ssh_config(5), TOKENS).
local function expand(text, tokens, what)
  local whole = text:gsub("^~/", "%%d/")
  local out = config_words.expand(whole, tokens, what)
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

---What the tokens stand for (ssh_config(5), TOKENS). %C is another hash in each version of ssh.
local function tokens_of(host, alias, found, home)
  local info = proc.info()
  return {
    h = host, n = alias, r = found.user or info.user, p = tostring(found.port or 22),
    u = info.user, i = tostring(info.uid), l = info.host, L = info.host:match("^[^.]*"), d = home,
    k = found.hostkeyalias or alias,
  }
end

---The path of the agent's socket: IdentityAgent, else $SSH_AUTH_SOCK.
local function agent_of(found, tokens)
  local said = found.identityagent or "SSH_AUTH_SOCK"
  if said:lower() == "none" then return nil end
  if said == "SSH_AUTH_SOCK" then said = "$SSH_AUTH_SOCK" end
  local name = said:match("^%$([%w_]+)$")
  local path = name and proc.getenv(name) or not name and expand(said, tokens, "IdentityAgent")
  return path ~= "" and path or nil
end

---The jumps with their tokens expanded: those of ProxyCommand (ssh_config(5), TOKENS).
local function jumps_of(found, tokens)
  local own = { h = tokens.h, n = tokens.n, p = tokens.p, r = tokens.r }
  local jumps = {}
  for index, jump in ipairs(found.proxyjump or {}) do
    jumps[index] = {
      host = config_words.expand(jump.host, own, "ProxyJump"), port = jump.port,
      user = jump.user and config_words.expand(jump.user, own, "ProxyJump"),
    }
  end
  return jumps
end

local function files_of(found, tokens)
  local known = expand_all(found.userknownhostsfile or default_known_hosts, tokens,
    "UserKnownHostsFile")
  for _, path in ipairs(found.globalknownhostsfile or default_global) do
    if path:lower() ~= "none" then known[#known + 1] = path:gsub("^~/", tokens.d .. "/") end
  end
  local revoked = found.revokedhostkeys
  if revoked and revoked:lower() == "none" then revoked = nil end
  return known, revoked and revoked:gsub("^~/", tokens.d .. "/")
end

local function result(alias, host, found, home)
  local tokens = tokens_of(host, alias, found, home)
  local known, revoked = files_of(found, tokens)
  local command = found.proxycommand
  if command and command:lower() == "none" then command = nil end
  return {
    alias = alias, host = host, user = tokens.r, port = found.port or 22,
    identity_files = expand_all(found.identityfile or default_identities, tokens, "IdentityFile"),
    certificate_files = expand_all(found.certificatefile or {}, tokens, "CertificateFile"),
    identities_only = found.identitiesonly or false,
    identity_agent = agent_of(found, tokens),
    jumps = jumps_of(found, tokens), proxy_command = command, proxy_place = found.proxy_place,
    known_hosts = known, revoked_host_keys = revoked, host_key_alias = found.hostkeyalias,
    tokens = tokens, notes = found.notes,
  }
end

local function read(state, opts)
  if opts.file then return config_file.read(state, opts.file, state.home .. "/.ssh") end
  config_file.read(state, state.home .. "/.ssh/config", state.home .. "/.ssh", true)
  config_file.read(state, "/etc/ssh/ssh_config", "/etc/ssh")
end

---Resolves a host's name by the user's configuration. What has an effect on `ssh` and none on kiln
---is in `notes`.
---Raises `invalid` and `unsupported` (with file and line), `denied`, `io`.
---@async
---@param alias string as given to `ssh`, without a user
---@param opts? { file: string?, user: string?, port: integer?, home: string? } instead of both
---  usual files; what counts more than the files; home folder ($HOME)
---@return kiln.ssh.HostConfig
function config.resolve(alias, opts)
  opts = opts or {}
  local home = opts.home or proc.getenv "HOME" or "/"
  local found = { user = opts.user, port = opts.port, notes = {}, noted = {} }
  ---@type kiln.ssh.ConfigState
  local state = {
    asked = alias, host = alias, home = home, found = found, final = false, wants_final = false,
    set = function(keyword, words, rest, place)
      local take = honoured[keyword]
      if take then take(found, words, rest, place) else note(found, keyword, rest, place) end
    end,
  }
  read(state, opts)
  local host = found.hostname and config_words.host_name(found.hostname, alias) or alias
  host = config_canonical.name(host, found)
  if state.wants_final or config_canonical.is_asked(found) then
    found.hostname = host:gsub("%%", "%%%%")
    state.final, state.host = true, host
    read(state, opts)
  end
  return result(alias, host, found, home)
end

return config
