---The canonical name of a host: addresses in their one form, and CanonicalizeHostname with its
---domains and CNAMEs (ssh_config(5); OpenSSH's ssh.c, resolve_canonicalize).
local rt_tcp = require "rt.tcp"
local error_ = require "kiln.error"
local pattern = require "kiln.ssh.pattern"

local config_canonical = {}

---Tells whether the files ask for canonical names, and with that for a second pass over them.
---@param found table<string, any> values by keyword
---@return boolean
function config_canonical.is_asked(found)
  local mode = found.canonicalizehostname
  return mode ~= nil and mode ~= "no" and mode ~= "false"
end

local function is_direct(found)
  local command = found.proxycommand
  return (not command or command:lower() == "none")
    and (not found.proxyjump or #found.proxyjump == 0)
end

---What a name's address record calls it; nil when the name has no address, or when no name server
---answers: `ssh` goes on then too, to the next domain or to the name as it is.
local function look_up(name)
  local answer, err = rt_tcp.look_up(name)
  if not answer and not error_.is(err, "not_found", "unreachable") then
    error(error_.from(err), 0)
  end
  return answer and answer.canonical
end

---A rule "sources:targets" lets a name of its sources become a CNAME of its targets.
local function follow(name, cname, found)
  local rules = found.canonicalizepermittedcnames or {}
  if cname == name or rules[1] == "none" then return name end
  for _, rule in ipairs(rules) do
    if rule == "*" then rule = "*:*" end
    local sources, targets = rule:match("^([^:]+):([^:]+)$")
    if not sources then
      error_.raise { kind = "invalid", message = ("CanonicalizePermittedCNAMEs: '%s' is not of the "
        .. "form sources:targets"):format(rule) }
    end
    if pattern.match_list(name:lower(), pattern.split(sources:lower()))
      and pattern.match_list(cname:lower(), pattern.split(targets:lower())) then
      return cname
    end
  end
  return name
end

---Tries the name in each domain. Nil: it is in none, or has enough dots to stand for itself.
local function in_domains(name, found)
  local candidates = {}
  if name:sub(-1) == "." then
    candidates[1] = name
  else
    local _, dots = name:gsub("%.", "")
    if dots > (found.canonicalizemaxdots or 1) then return nil end
    for _, domain in ipairs(found.canonicaldomains or {}) do
      if domain:lower() == "none" then break end
      candidates[#candidates + 1] = ("%s.%s."):format(name, domain)
    end
  end
  for _, candidate in ipairs(candidates) do
    local cname = look_up(candidate)
    if cname then return follow(candidate:sub(1, -2), cname, found) end
  end
  if found.canonicalizefallbacklocal ~= false then return nil end
  error_.raise { kind = "unreachable", message = ("%s is in none of CanonicalDomains (%s), and "
    .. "CanonicalizeFallbackLocal is no"):format(name,
    table.concat(found.canonicaldomains or {}, ", ")) }
end

---Gives the name to connect to. Raises `invalid`, `unreachable`.
---@async
---@param name string
---@param found table<string, any> values by keyword
---@return string
function config_canonical.name(name, found)
  local address = rt_tcp.address(name)
  if address then return address end
  if name:find("^[%d.]+$") or name:lower():find("^0x[%x.]+$") then
    error_.raise { kind = "invalid", message = ("'%s' is no address in its usual form; write all "
      .. "four numbers of it"):format(name) }
  end
  name = name:lower()
  if not config_canonical.is_asked(found) then return name end
  if not is_direct(found) and found.canonicalizehostname ~= "always" then return name end
  local canonical = in_domains(name, found)
  if canonical then return canonical end
  local rules = found.canonicalizepermittedcnames
  if not rules or rules[1] == "none" then return name end
  local cname = look_up(name)
  return cname and follow(name, cname, found) or name
end

return config_canonical
