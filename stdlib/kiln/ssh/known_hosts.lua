---Reads known_hosts: which keys a host may show (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). A line that
---makes no sense is skipped, as OpenSSH does, and never hides the others.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local error_ = require "kiln.error"
local pattern = require "kiln.ssh.pattern"

local known_hosts = {}

---Key types that libssh2 can check.
local usable = {
  ["ssh-ed25519"] = true, ["ssh-rsa"] = true, ["ecdsa-sha2-nistp256"] = true,
  ["ecdsa-sha2-nistp384"] = true, ["ecdsa-sha2-nistp521"] = true,
}

---@class kiln.ssh.KnownKey
---@field key string "ssh-ed25519 AAAA…"
---@field place string "file:line"

---@class kiln.ssh.Known
---@field keys kiln.ssh.KnownKey[] that the host may show
---@field revoked kiln.ssh.KnownKey[] that it must not show
---@field authorities kiln.ssh.KnownKey[] that may sign host certificates
---@field unusable kiln.ssh.KnownKey[] of types that libssh2 does not know

---"|1|salt|hash": HMAC-SHA1 of the name with the salt as the key.
local function is_hashed_name(entry, name)
  local salt, hash = entry:match("^|1|([^|]+)|([^|]+)$")
  salt = salt and crypto.unbase64(salt)
  hash = hash and crypto.unbase64(hash)
  return salt ~= nil and salt ~= "" and hash == crypto.hmac_sha1(salt, name, { raw = true })
end

local function is_for(hosts, name)
  if hosts:sub(1, 1) == "|" then return is_hashed_name(hosts, name) end
  return pattern.match_list(name, pattern.split(hosts:lower()))
end

---The key's own text says its type too (RFC 4253 6.6); both must agree.
local function is_key(kind, text)
  local blob = crypto.unbase64(text)
  return blob ~= nil and #blob > #kind + 4 and blob:sub(1, #kind + 4) == string.pack(">s4", kind)
end

local function take_line(found, line, name, place)
  local marker, rest = line:match("^[ \t]*(@%S+)[ \t]+(.*)$")
  local hosts, kind, text = (rest or line):match("^[ \t]*(%S+)[ \t]+(%S+)[ \t]+(%S+)")
  if not hosts or hosts:sub(1, 1) == "#" or not is_for(hosts, name) then return end
  if not is_key(kind, text) then return end
  local list = marker == nil and (usable[kind] and found.keys or found.unusable)
    or marker == "@revoked" and found.revoked
    or marker == "@cert-authority" and found.authorities
  if list then list[#list + 1] = { key = kind .. " " .. text, place = place } end
end

local function empty()
  return { keys = {}, revoked = {}, authorities = {}, unusable = {} }
end

---The name as the file has it.
local function name_of(host, port)
  host = host:lower()
  return port == 22 and host or ("[%s]:%d"):format(host, port)
end

local function search(files, name)
  local found = empty()
  for _, file in ipairs(files) do
    local text, err = fs.read(file)
    if not text and not error_.is(err, "not_found") then error(error_.from(err), 0) end
    local number = 0
    for line in ((text or "") .. "\n"):gmatch("([^\n]*)\n") do
      number = number + 1
      take_line(found, line:gsub("\r$", ""), name, ("%s:%d"):format(file, number))
    end
  end
  return found
end

---Looks a host up. On a port of its own it is looked up as "[host]:port" first, then, as OpenSSH
---does, by its name alone. Raises `denied`, `limit`, `io`; a file that is absent is empty.
---@param host string name, alias or address
---@param port integer
---@param files string[] paths
---@return kiln.ssh.Known
function known_hosts.find(host, port, files)
  local found = search(files, name_of(host, port))
  if port ~= 22 and #found.keys == 0 and #found.authorities == 0 then
    local plain = search(files, name_of(host, 22))
    table.move(found.revoked, 1, #found.revoked, #plain.revoked + 1, plain.revoked)
    return plain
  end
  return found
end

local function unknown(found, name, files)
  local way_out = ("add it after checking it: ssh-keyscan %s, or give 'host_key'"):format(
    name:gsub("^%[(.*)%]:(%d+)$", "-p %2 %1"))
  local said
  if #found.authorities > 0 then
    said = ("%s trusts %s by a certificate authority, which libssh2 cannot check; know the host's "
      .. "own key"):format(found.authorities[1].place, name)
  elseif #found.unusable > 0 then
    said = ("%s knows %s by a %s key, which libssh2 cannot check; know another of its keys")
      :format(found.unusable[1].place, name, found.unusable[1].key:match("^%S+"))
  elseif #found.revoked > 0 then
    said = ("%s revokes the only known key of %s"):format(found.revoked[1].place, name)
  else
    said = ("%s is in none of %s"):format(name, table.concat(files, ", "))
  end
  error_.raise { kind = "host_key", message = said .. "; " .. way_out }
end

---Gives what `rt.ssh.connect` may accept from a host: the keys known, "@revoked" before those that
---it must not show. Raises `host_key` when no usable key is known.
---@param host string name, alias or address
---@param port integer
---@param files string[] paths
---@return string[] pins
function known_hosts.pins(host, port, files)
  local found = known_hosts.find(host, port, files)
  local revoked, pins, good = {}, {}, 0
  for _, one in ipairs(found.revoked) do
    revoked[one.key] = true
    if usable[one.key:match("^%S+")] then pins[#pins + 1] = "@revoked " .. one.key end
  end
  for _, one in ipairs(found.keys) do
    if not revoked[one.key] then
      good = good + 1
      pins[#pins + 1] = one.key
    end
  end
  if good == 0 then unknown(found, name_of(host, port), files) end
  return pins
end

---Reads the keys that no host may show (RevokedHostKeys): a public key a line.
---Raises `host_key` for a file that cannot be read, as `ssh` then trusts no host, and `unsupported`
---for a key revocation list (ssh-keygen -k).
---@param path string
---@return table<string, true> revoked "ssh-ed25519 AAAA…"
function known_hosts.revoked(path)
  local text, err = fs.read(path)
  if not text then
    error_.raise { kind = "host_key", message = ("RevokedHostKeys: %s; without that file no host "
      .. "is trusted"):format(err.message) }
  elseif text:find("^SSHKRL\n") then
    error_.raise { kind = "unsupported", message = ("RevokedHostKeys: %s is a key revocation "
      .. "list, which kiln does not read; write the public keys into a file, one a line"):format(
      path) }
  end
  local revoked = {}
  for line in text:gmatch("[^\r\n]+") do
    local kind, key = line:match("^%s*(%S+)%s+(%S+)")
    if kind and is_key(kind, key) then revoked[kind .. " " .. key] = true end
  end
  return revoked
end

---Drops revoked keys from those that a host may show. Raises `host_key` when none is left.
---@param pins string[]
---@param path string of RevokedHostKeys
---@param name string of the host, for the error
---@return string[] pins
function known_hosts.without_revoked(pins, path, name)
  local revoked, left, good = known_hosts.revoked(path), {}, 0
  for _, pin in ipairs(pins) do
    local key = pin:match("^%s*(%S+%s+%S+)")
    local bare = key and not key:find("^@") and key:gsub("%s+", " ")
    if bare and revoked[bare] then
      left[#left + 1] = "@revoked " .. bare
    else
      left[#left + 1] = pin
      if bare then good = good + 1 end
    end
  end
  if good == 0 then
    error_.raise { kind = "host_key", message = ("%s revokes the only known key of %s; nothing was "
      .. "sent to it"):format(path, name) }
  end
  return left
end

return known_hosts
