---SSH keys that kiln makes: the project's own key, and a host key for every machine, so that the
---first connection is pinned. Private halves lie in `.kiln/ssh`, 0600, and nowhere else here.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local error_ = require "kiln.error"
local secret = require "kiln.secret"
local user_data = require "kiln.user_data"

local machine_keys = {}

---Makes a private key a secret of this process: whatever prints it prints `<secret>`.
local function know(path, private)
  secret.remember(private, "key " .. path:match("[^/]*$"))
end

---Reads a key pair from its two files, or makes it; whoever writes the private half first wins.
local function pair(path, comment)
  local private, public = fs.read(path), fs.read(path .. ".pub")
  if private and public then
    know(path, private)
    return private, (public:gsub("%s+$", ""))
  end
  local made = crypto.ed25519_keypair(comment)
  private, public = crypto.reveal(made.private), made.public
  know(path, private)
  error_.check(fs.write(path .. ".pub", public .. "\n", { mode = "0644" }))
  error_.check(fs.write(path, private, { mode = "0600" }))
  return private, public
end

---The path of a machine's private host key. A token that a path would read more into is refused.
local function host_path(folder, token)
  if not token:find("^[%w][%w%.:_%-]*$") then
    error_.raise { kind = "invalid", message = ("'%s' is no machine's token"):format(token) }
  end
  return folder .. "/ssh/host-" .. token
end

---Gives the project's own key: who may log in to machines of this project.
---@param folder string the project's `.kiln`
---@return string private OpenSSH format
---@return string public one line
function machine_keys.project(folder)
  error_.check(fs.mkdir(folder .. "/ssh", { parents = true, mode = "0700" }))
  return pair(folder .. "/ssh/id_ed25519", "kiln")
end

---Gives the keys of one machine; the same token gives the same keys, also in a resumed run.
---@param run kiln.Run
---@param name string
---@param token string
---@return { user_public: string, host_private: string, host_public: string }
function machine_keys.machine(run, name, token)
  local folder = run.store.folder
  local _, user_public = machine_keys.project(folder)
  local host_private, host_public = pair(host_path(folder, token), name)
  return { user_public = user_public, host_private = host_private, host_public = host_public }
end

---Reads the public host key of a machine that was made before. Raises `not_found`.
---@param folder string the project's `.kiln`
---@param token string
---@return string public one line
function machine_keys.host_public(folder, token)
  local path = host_path(folder, token) .. ".pub"
  local public = fs.read(path)
  if public then return (public:gsub("%s+$", "")) end
  error_.raise { kind = "not_found", message = ("%s is missing, and a machine without its host key "
    .. "cannot be trusted: `kiln abort` removes it"):format(path) }
end

---Makes the private keys of the project's machines known, as a resumed run needs them.
---@param folder string the project's `.kiln`
function machine_keys.know_all(folder)
  for _, path in ipairs(fs.glob(folder .. "/ssh/*") or {}) do
    local private = not path:find("%.pub$") and fs.read(path)
    if private then know(path, private) end
  end
end

---Removes a machine's host key; the machine is gone.
---@param folder string
---@param token string
function machine_keys.forget(folder, token)
  local path = host_path(folder, token)
  fs.remove(path)
  fs.remove(path .. ".pub")
end

---Joins kiln's keys and the recipe's user-data into one document. Raises `invalid`.
---@param keys { user_public: string, host_private: string, host_public: string }
---@param text? string the recipe's user-data, of any kind that cloud-init knows
---@return string
function machine_keys.user_data(keys, text)
  return user_data.join({
    ssh_keys = { ed25519_private = keys.host_private, ed25519_public = keys.host_public },
    ssh_authorized_keys = { keys.user_public },
  }, text)
end

---Counts the bytes of a machine's user-data with kiln's part, before there are keys. Raises
---`invalid` for user-data that cloud-init would not run.
---@param names string[] the machines'
---@param text? string
---@return integer bytes
function machine_keys.measure(names, text)
  local longest = ""
  for _, name in ipairs(names) do longest = #name > #longest and name or longest end
  local host = crypto.ed25519_keypair(longest) -- as long as the real one
  return #machine_keys.user_data({
    user_public = crypto.ed25519_keypair("kiln").public,
    host_private = crypto.reveal(host.private), host_public = host.public,
  }, text)
end

return machine_keys
