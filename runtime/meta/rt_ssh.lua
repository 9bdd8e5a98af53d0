---@meta rt.ssh

---Connections to machines over SSH: keys only, and only to the host whose key is pinned.
local ssh = {}

---A connection; commands run on it with `rt.exec`, files travel with `rt.transfer`.
---@class rt.ssh.Session
local Session = {}

---@class rt.ssh.ConnectOptions
---@field host string name or address
---@field port? integer (22)
---@field user? string ("root")
---@field key string|userdata text of the private key (ed25519 or ecdsa), or a secret
---@field passphrase? string|userdata of the key
---@field host_key string the host's public key, "ssh-ed25519 AAAA…"; another one ends the
---  connection before a byte is sent to it
---@field timeout? number seconds to the end of the login (30)
---@field keepalive? number seconds between signs of life; three unanswered: unreachable (15)

---Connects and logs in.
---Errors: `unreachable`, `timeout`, `host_key`, `auth`, `protocol`, `unsupported`, `invalid`.
---@async
---@param opts rt.ssh.ConnectOptions
---@return rt.ssh.Session? session
---@return table? err { kind, message, code? }
function ssh.connect(opts) end

---Tells whether commands can start on it; false once it was lost or closed.
---@return boolean
function Session:alive() end

---Ends the connection; commands that still run end with `cancelled`. May run twice.
function Session:close() end

return ssh
