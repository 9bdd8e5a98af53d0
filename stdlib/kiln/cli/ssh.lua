---`kiln ssh`: a login on a machine of the ledger, by OpenSSH's client, with kiln's key and the
---machine's own host key, whatever the user's known_hosts says.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local error_ = require "kiln.error"
local machine_keys = require "kiln.machine_keys"
local provider = require "kiln.provider"
local screen = require "kiln.cli.screen"
local ssh = require "kiln.ssh"
local rows = require "kiln.store_rows"
local store_ = require "kiln.store"

local login = {}

local connect_seconds = 15 -- a machine that answers at all does so in a fraction of it

---A machine with its address and its host key. Many clouds tell the address only a while after the
---machine was made, so the ledger may not have it.
local function reachable(found)
  if (found.data.address or "") == "" then
    local now = provider.driver(found.provider):machine(found.id)
    found.data.address = now and now.address or ""
    if found.data.address == "" then
      error_.raise { kind = "not_found", message = ("%s %s"):format(found.name,
        now and "has no address yet" or "is in the ledger, and the cloud has it no more") }
    end
  end
  if found.data.host_key then
    if rows.is_address(found.data.address) and rows.is_public_key(found.data.host_key) then
      return found
    end
    error_.raise { kind = "invalid", message = ("the ledger has an address or a host key of %s "
      .. "that is none: ssh would take it for something else"):format(found.name) }
  end
  error_.raise { kind = "not_found", message = ("kiln has no host key of %s, which was adopted: it "
    .. "does not log in to what it cannot know; a new release replaces it"):format(found.name) }
end

---The machine of that name, id or address; of several of that name, the newest.
local function find(store, wanted)
  local names = {}
  local found
  for _, row in ipairs(store:ledger { kind = "machine", state = "live" }) do
    local data = row.data and json.decode(row.data) or {}
    names[#names + 1] = row.name
    if row.name == wanted or row.id == wanted or data.address == wanted then
      found = { name = row.name, id = row.id, provider = row.provider, data = data }
    end
  end
  if found then return reachable(found) end
  table.sort(names)
  error_.raise { kind = "not_found", message = ("there is no machine '%s' here; %s"):format(wanted,
    #names > 0 and "there are " .. table.concat(names, ", ") or "the ledger has none that lives") }
end

---The words of OpenSSH's client. Its known_hosts file knows the machine alone.
local function words(at, files, command)
  local argv = {
    "ssh", "-F", "none", "-i", files.key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
    "-o", "UserKnownHostsFile=" .. files.known_hosts, "-o", "GlobalKnownHostsFile=none",
    "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=" .. at.alias,
    "-o", "UpdateHostKeys=no", "-o", "ConnectTimeout=" .. connect_seconds,
    "-o", "ServerAliveInterval=" .. connect_seconds, "-o", "ServerAliveCountMax=4",
    "-p", tostring(at.port), "-l", "root", "--", at.host,
  }
  -- Words after the host are joined by blanks for the shell there, as `ssh` itself does.
  return table.move(command, 1, #command, #argv + 1, argv)
end

---A way that OpenSSH can go: kiln alone reaches the machines of an ordinary user, whose network is
---a namespace.
local function way(machine, key)
  if machine.provider ~= "local" or proc.info().uid == 0 then
    return { host = machine.data.address, port = 22 }
  end
  local session = ssh.connect {
    host = machine.data.address, name = machine.name, key = key, within = 10,
    host_key = machine.data.host_key,
  }
  local port = session:forward { to_port = 22 }
  return {
    host = port.host, port = port.port,
    close = function()
      port:close()
      session:close()
    end,
  }
end

---Logs in to a machine, or runs a command there with the user's own streams.
---Raises `not_found` (no such machine, or no OpenSSH client), `unreachable`.
---@async
---@param options { machine: string, words: string[], dir: string? }
---@return integer status of the command, 255 when the connection failed
function login.ssh(options)
  local store <close> = store_.open(options.dir or ".", { existing = true })
  local machine = find(store, options.machine)
  local driver = provider.driver(machine.provider)
  local repaired = driver.repair and driver:repair()
  if repaired then
    screen.warn(("the machines' network was broken (%s): repaired"):format(repaired))
  end
  local key = machine_keys.project(store.folder)
  local folder = error_.check(fs.temp_dir())
  local at = way(machine, key)
  at.alias = rows.is_name(machine.name) and machine.name or "machine"
  local files = { key = store.folder .. "/ssh/id_ed25519", known_hosts = folder .. "/known_hosts" }
  error_.check(fs.write(files.known_hosts, ("%s %s\n"):format(at.alias, machine.data.host_key),
    { mode = "0600" }))
  local done, err = proc.run {
    argv = words(at, files, options.words), inherit = true, timeout = 0,
  }
  if at.close then at.close() end
  fs.remove(folder, { recursive = true })
  error_.check(done, err)
  return done.code or 255
end

return login
