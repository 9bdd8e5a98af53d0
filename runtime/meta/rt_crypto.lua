---@meta rt.crypto

---Digests, random bytes, encodings, ed25519 keys in OpenSSH's format, secrets.
local crypto = {}

---Gives the SHA-256 of bytes (FIPS 180-4).
---@param bytes string|userdata text or a secret
---@return string hex 64 lower-case digits
function crypto.sha256(bytes) end

---Gives the MD5 of bytes (RFC 1321), as old fingerprints of keys are written; for nothing new.
---@param bytes string|userdata
---@return string hex 32 lower-case digits
function crypto.md5(bytes) end

---Gives the SHA-256 of a file, read in blocks by a thread, so other tasks go on.
---@async
---@param path string
---@return string? hex
---@return table? err kinds not_found, denied, io
function crypto.sha256_file(path) end

---Gives the HMAC with SHA-256 (RFC 2104).
---@param key string|userdata
---@param bytes string|userdata
---@param opts? { raw: boolean? } bytes instead of hex (false)
---@return string
function crypto.hmac_sha256(key, bytes, opts) end

---Gives the HMAC with SHA-1 (RFC 2104), which known_hosts hides names with; for nothing new.
---@param key string|userdata
---@param bytes string|userdata
---@param opts? { raw: boolean? } bytes instead of hex (false)
---@return string
function crypto.hmac_sha1(key, bytes, opts) end

---Gives random bytes from the system.
---@param length integer 1 to 1048576
---@return string
function crypto.random(length) end

---Writes bytes as lower-case hexadecimal digits.
---@param bytes string
---@return string
function crypto.hex(bytes) end

---Writes bytes in base64 with padding (RFC 4648).
---@param bytes string|userdata
---@return string
function crypto.base64(bytes) end

---Reads base64 with padding.
---@param text string
---@return string? bytes
---@return table? err kind invalid
function crypto.unbase64(text) end

---Makes an ed25519 key pair.
---@param comment? string one line ("")
---@return { private: userdata, public: string } private: a secret in OpenSSH's private key format;
---  public: one line as in authorized_keys
function crypto.ed25519_keypair(comment) end

---Gives the fingerprint of a public key line, as `ssh-keygen -l` prints it.
---@param public string "ssh-ed25519 AAAA… comment"
---@return string? fingerprint "SHA256:…"
---@return table? err kind invalid
function crypto.fingerprint(public) end

---Makes a secret of text.
---@param bytes string
---@return userdata secret
function crypto.secret(bytes) end

---Gives the bytes of a secret. Only for kiln's own library.
---@param secret userdata
---@return string bytes
function crypto.reveal(secret) end

---Tells whether a value is a secret.
---@param value any
---@return boolean
function crypto.is_secret(value) end

return crypto
