---Digests and encodings for recipes and providers. Keys and secrets are elsewhere: `kiln.secret`,
---`kiln.machine_keys`.
local rt_crypto = require "rt.crypto"
local error_ = require "kiln.error"
local secret = require "kiln.secret"

local crypto = {}

---Gives the SHA-256 of bytes.
---@param bytes string|userdata
---@return string hex 64 lower-case digits
function crypto.sha256(bytes)
  return rt_crypto.sha256(bytes)
end

---Writes bytes in base64.
---@param bytes string|userdata
---@return string|userdata text a secret for a secret
function crypto.base64(bytes)
  return secret.encode(bytes, rt_crypto.base64)
end

---Reads base64. Raises `invalid`.
---@param text string
---@return string bytes
function crypto.unbase64(text)
  return error_.check(rt_crypto.unbase64(text))
end

---Gives the fingerprint of a public key as clouds write it: the MD5 of the key, as in
---`ssh-keygen -l -E md5` (RFC 4716, section 4). Raises `invalid` for what is no public key.
---@param public string "ssh-ed25519 AAAA… comment"
---@return string fingerprint "3b:16:bf:…"
function crypto.md5_fingerprint(public)
  local kind, text = public:match("^%s*(%S+)%s+([%w+/=]+)")
  local bytes = text and rt_crypto.unbase64(text)
  -- The blob begins with its own type, as a string of 4 bytes of length (RFC 4253, section 6.6).
  if not bytes or #bytes < 8 + #kind or bytes:sub(1, 4 + #kind) ~= string.pack(">s4", kind) then
    error_.raise { kind = "invalid",
      message = "no public SSH key: that is one line, its type and then its base64 text" }
  end
  return (rt_crypto.md5(bytes):gsub("%x%x", "%0:"):sub(1, -2))
end

return crypto
