---The keys to log in with: a text, files, an ssh-agent; asks for a passphrase where there is a
---terminal, and only once.
local fs = require "rt.fs"
local rt_ssh = require "rt.ssh"
local task = require "rt.task"
local tty = require "rt.tty"
local error_ = require "kiln.error"

local identity = {}

---The text of a key, which may need a passphrase before it can be used.
---@class kiln.ssh.KeyText
---@field name string path, or "the key"
---@field text string|userdata
---@field certificates string[] that may be of this key
---@field public? string its public half, where that is known without the passphrase

---@class kiln.ssh.Identities
---@field keys rt.ssh.Key[] to try, in this order
---@field locked kiln.ssh.KeyText[] to open if the host takes none of `keys`
---@field notes string[] keys that cannot be used, and why

local tries = 3 -- of a passphrase that is typed, as ssh does

---Keys opened with a typed passphrase, by name, so that many connections ask once.
---@type table<string, rt.ssh.Key[]>
local opened = {}
---The tasks that ask now, by name.
---@type table<string, rt.Task>
local asking = {}

local function read(path)
  local text, err = fs.read(path, { max = 65536 })
  if not text and not error_.is(err, "not_found") then error(error_.from(err), 0) end
  return text
end

---Opens a key: with each certificate of its own first, then alone, as OpenSSH does. Certificates
---that libssh2 cannot use are noted.
local function open(one, passphrase, notes)
  local keys = {}
  for _, certificate in ipairs(one.certificates) do
    local key, err = rt_ssh.key {
      text = one.text, certificate = certificate, passphrase = passphrase,
    }
    if not key and not error_.is(err, "invalid", "unsupported") then return nil, err end
    if error_.is(err, "unsupported") then
      notes[#notes + 1] = ("%s: %s"):format(one.name, err.message)
    end
    keys[#keys + 1] = key
  end
  local key, err = rt_ssh.key { text = one.text, passphrase = passphrase }
  if not key then
    err.message = ("%s: %s"):format(one.name, err.message)
    return nil, err
  end
  keys[#keys + 1] = key
  return keys
end

---Opens what can be opened and keeps what is locked; returns the public half.
local function add(found, one, passphrase, into)
  local keys, err = open(one, passphrase, found.notes)
  if keys then
    table.move(keys, 1, #keys, #into + 1, into)
    return keys[1]:public()
  elseif error_.is(err, "locked") then
    one.public = err.public or one.public
    found.locked[#found.locked + 1] = one
  else
    found.notes[#found.notes + 1] = err.message
  end
  return one.public
end

---The public key that a text is, or nil: "ssh-ed25519 AAAA… comment", in one line.
local function public_text(text)
  return ((text .. "\n"):match("^([%w@.-]+ AAAA[%w+/]+=*)%s"))
end

local function key_text(path, certificates)
  local text = read(path)
  if not text or public_text(text) then return nil end
  local own = read(path .. "-cert.pub")
  return {
    name = path, text = text, certificates = table.move(certificates, 1, #certificates,
      own and 2 or 1, { own }),
    public = public_text(read(path .. ".pub") or ""),
  }
end

---The agent's keys: those of `named` first, then the others.
local function agent_keys(found, path, named, only)
  if not path then return {} end
  local keys, err = rt_ssh.agent(path)
  if not keys then found.notes[#found.notes + 1] = err.message end
  local first, others, held = {}, {}, {}
  for _, key in ipairs(keys or {}) do
    local public = key:public()
    held[public] = true
    local list = named[public] and first or others
    list[#list + 1] = key
  end
  if only then others = {} end
  return table.move(others, 1, #others, #first + 1, first), held
end

---Gathers keys in OpenSSH's order: those of the agent that a file names, the agent's others, the
---files'. A file whose key the agent holds needs no passphrase. Absent files are passed over.
---Raises `denied`, `io` for a file that cannot be read.
---@async
---@param opts { files: string[], certificate_files: string[]?, agent: string?, only: boolean?,
---  passphrase: string|userdata? } paths; the agent's socket; of the agent only keys that a file
---  names
---@return kiln.ssh.Identities
function identity.gather(opts)
  local found = { keys = {}, locked = {}, notes = {} }
  local certificates, from_files, named = {}, {}, {}
  for _, path in ipairs(opts.certificate_files or {}) do
    certificates[#certificates + 1] = read(path)
  end
  for _, path in ipairs(opts.files) do
    local one = key_text(path, certificates)
    local public = one and add(found, one, opts.passphrase, from_files)
      or public_text(read(path) or read(path .. ".pub") or "") -- the agent has the private half
    if public then named[public] = true end
  end
  local held
  found.keys, held = agent_keys(found, opts.agent, named, opts.only)
  table.move(from_files, 1, #from_files, #found.keys + 1, found.keys)
  local locked = {}
  for _, one in ipairs(found.locked) do
    if not (held and held[one.public]) then locked[#locked + 1] = one end
  end
  found.locked = locked
  return found
end

---Opens a key given as text. Raises `auth`, `unsupported`.
---@async
---@param text string|userdata
---@param name string for messages
---@param passphrase? string|userdata
---@return kiln.ssh.Identities
function identity.of_text(text, name, passphrase)
  local notes, one = {}, { name = name, text = text, certificates = {} }
  local keys, err = open(one, passphrase, notes)
  if keys then return { keys = keys, locked = {}, notes = notes } end
  if not error_.is(err, "locked") then error(error_.from(err), 0) end
  return { keys = {}, locked = { one }, notes = notes }
end

---Asks until the passphrase opens the key.
local function ask(one)
  local prompt = ("passphrase of %s: "):format(one.name)
  for attempt = 1, tries do
    local passphrase, err = tty.read_line(prompt, { echo = false })
    if err then error(error_.from(err), 0) end
    if not passphrase then break end
    local keys, why = open(one, passphrase, {})
    if keys then return keys end
    if not error_.is(why, "auth") or attempt == tries then error(error_.from(why), 0) end
    prompt = ("it does not open the key; passphrase of %s: "):format(one.name)
  end
  error_.raise { kind = "auth", message = ("no passphrase was given for %s"):format(one.name) }
end

---Opens a locked key by asking on the terminal, once for all who wait. Raises `auth` where there is
---no terminal to ask on, or after three wrong passphrases; `stopped`.
---@async
---@param one kiln.ssh.KeyText
---@return rt.ssh.Key[]
function identity.unlock(one)
  if opened[one.name] then return opened[one.name] end
  if not tty.is_tty(0) then
    error_.raise { kind = "auth", message = ("%s is encrypted, and standard input is no terminal "
      .. "to ask for its passphrase on; give 'passphrase' (a text or a secret), or add the key to "
      .. "an agent: ssh-add %s"):format(one.name, one.name) }
  end
  asking[one.name] = asking[one.name] or task.spawn(ask, one)
  local ok, keys = asking[one.name]:join()
  asking[one.name] = nil
  if not ok then error(error_.from(keys), 0) end
  opened[one.name] = keys
  return keys
end

return identity
