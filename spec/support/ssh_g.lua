---What OpenSSH itself makes of a configuration file: `ssh -G`, in the terms of kiln.ssh.config.
local proc = require "rt.proc"

local ssh_g = {}

---Asks `ssh -G`.
---@param path string of the file
---@param host string
---@return table<string, string|string[]>? said by keyword; nil when ssh refuses
---@return string? err what it says then
function ssh_g.ask(path, host)
  local done = assert(proc.run { argv = { "ssh", "-G", "-F", path, host } })
  if done.code ~= 0 then return nil, done.err end
  local said = { identityfile = {}, certificatefile = {} }
  for keyword, value in done.out:gmatch("(%S+) ([^\n]*)\n") do
    if type(said[keyword]) == "table" then
      table.insert(said[keyword], value)
    else
      said[keyword] = value
    end
  end
  return said
end

---Expands what `ssh -G` leaves as it is in the file.
local function expanded(text, said, host)
  local info = proc.info()
  local stands_for = {
    ["%"] = "%", h = said.hostname, n = host, r = said.user, p = said.port, u = info.user,
    d = proc.getenv "HOME", i = tostring(info.uid), L = info.host:match("^[^.]*"), l = info.host,
    k = said.hostkeyalias or host,
  }
  return (text:gsub("^~/", "%%d/"):gsub("%%(.)", stands_for):gsub("%${([%w_]+)}", proc.getenv))
end

local unusable = { "_sk$", "id_xmss", "id_dsa", "^none$" }

---A list of paths as one text, less what libssh2 cannot use and kiln leaves out.
local function paths(list, said, host)
  local out = {}
  for _, path in ipairs(list) do
    local use = true
    for _, part in ipairs(unusable) do use = use and not path:find(part) end
    if use then out[#out + 1] = expanded(path, said, host) end
  end
  return table.concat(out, "|")
end

local function jumps_of(ours)
  local out = {}
  for _, jump in ipairs(ours.jumps) do
    out[#out + 1] = (jump.user and jump.user .. "@" or "") .. jump.host
      .. (jump.port and ":" .. jump.port or "")
  end
  return table.concat(out, ",")
end

local function absent(value) return value == "none" and "" or value or "" end

---`ssh -G` does not quote names with blanks, so the files are compared as one line.
local function known_of(said, host)
  local out = {}
  for path in (absent(said.userknownhostsfile) .. " " .. absent(said.globalknownhostsfile))
    :gmatch("%S+") do
    out[#out + 1] = expanded(path, said, host)
  end
  return table.concat(out, " ")
end

---Names the fields that kiln uses in which both differ.
---@param said table of `ssh_g.ask`
---@param ours kiln.ssh.HostConfig
---@param host string that was asked for
---@return string[] differences
function ssh_g.differences(said, ours, host)
  local agent = absent(said.identityagent)
  local fields = {
    { "hostname", said.hostname:lower(), ours.host },
    { "user", said.user, ours.user },
    { "port", tonumber(said.port), ours.port },
    { "identityfile", paths(said.identityfile, said, host),
      table.concat(ours.identity_files, "|") },
    { "certificatefile", paths(said.certificatefile, said, host),
      table.concat(ours.certificate_files, "|") },
    { "identitiesonly", said.identitiesonly == "yes", ours.identities_only },
    { "hostkeyalias", said.hostkeyalias, ours.host_key_alias },
    { "proxyjump", expanded(absent(said.proxyjump):gsub("[%[%]]", ""), said, host),
      jumps_of(ours) }, -- ssh writes brackets around addresses
    { "proxycommand", absent(said.proxycommand), ours.proxy_command or "" },
    { "knownhostsfile", known_of(said, host), table.concat(ours.known_hosts, " ") },
    { "revokedhostkeys", expanded(absent(said.revokedhostkeys), said, host),
      ours.revoked_host_keys or "" },
    { "identityagent", (agent == "" and said.identityagent ~= "none") and "as ever"
      or agent:find("^%$") and (proc.getenv(agent:sub(2)) or "") or expanded(agent, said, host),
      agent == "" and said.identityagent ~= "none" and "as ever" or ours.identity_agent or "" },
  }
  local found = {}
  for _, field in ipairs(fields) do
    if field[2] ~= field[3] then
      found[#found + 1] = ("%s: ssh says '%s', kiln '%s'"):format(field[1], tostring(field[2]),
        tostring(field[3]))
    end
  end
  return found
end

return ssh_g
