---@meta rt.ssh

---Connections to machines over SSH: by keys only, and only to a host whose key is known.
local ssh = {}

---A user's private key, opened, or one that an agent holds.
---@class rt.ssh.Key
local Key = {}

---A connection; commands run on it with `rt.exec`, files travel with `rt.transfer`.
---@class rt.ssh.Session
local Session = {}

---@class rt.ssh.ConnectOptions
---@field host string name or address
---@field port? integer (22)
---@field user? string ("root")
---@field key string|userdata|rt.ssh.Key[] text of a private key without passphrase, also as a
---  secret; an opened key; or a list of opened keys, tried in this order
---@field host_key string|string[] public keys that the host may show, "ssh-ed25519 AAAA…"; with
---  "@revoked " before it, one that it must not; any other ends the connection before a byte is
---  sent to it
---@field via? rt.ssh.Session go through its host, which makes the TCP connection to `host`; it must
---  stay open
---@field proxy_command? string[] a program and its arguments, run without a shell, whose standard
---  input and output are the connection to `host`; it is ended with the session
---@field timeout? number seconds to the end of the login (30)
---@field keepalive? number seconds between signs of life; three unanswered: unreachable (15)

---Opens a private key: OpenSSH's format, PKCS#8, PKCS#1 or SEC1; ed25519, ecdsa or RSA. A thread
---does it, since a passphrase is slow on purpose.
---Errors: `locked` (needs its passphrase; with `public` if that is known), `auth` (wrong
---passphrase, no private key), `unsupported`, `invalid` (the certificate is not its own).
---@async
---@param opts { text: string|userdata, passphrase: string|userdata?, certificate: string? } the
---  certificate is the text of a "-cert.pub" file
---@return rt.ssh.Key? key
---@return table? err { kind, message, public? }
function ssh.key(opts) end

---Lists the keys of an ssh-agent that libssh2 can log in with.
---Errors: `unreachable`, `denied`, `timeout`, `protocol`, `invalid`.
---@async
---@param path string of its socket
---@param opts? { timeout: number? } seconds (10)
---@return rt.ssh.Key[]? keys
---@return table? err
function ssh.agent(path, opts) end

---Gives the public half.
---@return string public "ssh-ed25519 AAAA…"
function Key:public() end

---Gives the comment that was written with the key.
---@return string
function Key:comment() end

---Forgets the key. May run twice.
function Key:close() end

---Connects and logs in.
---Errors: `unreachable`, `timeout`, `host_key`, `auth`, `locked`, `protocol`, `unsupported`,
---`invalid`; `not_found`, `denied` (the proxy command cannot be started).
---@async
---@param opts rt.ssh.ConnectOptions
---@return rt.ssh.Session? session
---@return table? err { kind, message, code? }
function ssh.connect(opts) end

---Tells the version of libssh2: 1.10 cannot check RSA host keys, nor log in with RSA or ed25519
---certificates; 1.11 can.
---@return string version "1.10.0"
function ssh.library() end

---Tells whether commands can start on it; false once it was lost or closed.
---@return boolean
function Session:alive() end

---Listens on a port here; each connection goes on to another as the session's host sees it. While
---that host connects, no command starts on the session: give it a session of its own.
---Errors: `exists` or `denied` (the port cannot be had), `io`.
---@param opts rt.ssh.ForwardOptions
---@return rt.ssh.Forward? forward
---@return table? err
function Session:forward(opts) end

---Has the session's host listen on a port; each connection leads here, to another port as it is
---seen from here. Only on a session that has not been used for anything else yet.
---Errors: `denied`, `unreachable`.
---@async
---@param opts rt.ssh.ForwardOptions
---@return rt.ssh.Forward? forward
---@return table? err
function Session:listen(opts) end

---@class rt.ssh.ForwardOptions
---@field host? string address to listen on ("127.0.0.1")
---@field port? integer to listen on (0: any that is free)
---@field to_host? string name or address to go on to ("127.0.0.1")
---@field to_port integer

---A port that leads through a session.
---@class rt.ssh.Forward
local Forward = {}

---Tells the port that is listened on.
---@return integer
function Forward:port() end

---Tells why the last connection failed that did; nothing if none has.
---@return table? err `unreachable` (nothing answers there), `denied` (forbidden by the sshd)
function Forward:failure() end

---Stops listening and ends the connections. May run twice.
function Forward:close() end

---Ends the connection; commands that still run end with `cancelled`. May run twice.
function Session:close() end

return ssh
