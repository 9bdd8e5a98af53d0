---Certificates for specs: an authority, a server of 127.0.0.1, a client; in a folder of their own.
local fs = require "rt.fs"
local proc = require "rt.proc"

local certificates = {}

---@class spec.Certificates
---@field dir string ca.pem, server.pem, server.key, client.pem, client.key, locked.key
local Certificates = {}
Certificates.__index = Certificates

local function openssl(dir, ...)
  local done = assert(proc.run { argv = { "openssl", ... }, cwd = dir })
  assert(done.code == 0, done.err)
end

local function issue(dir, name, subject, extension)
  openssl(dir, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
    name .. ".key", "-out", name .. ".csr", "-subj", "/CN=" .. subject)
  assert(fs.write(dir .. "/" .. name .. ".ext", extension .. "\n"))
  openssl(dir, "x509", "-req", "-in", name .. ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
    "-CAcreateserial", "-days", "2", "-extfile", name .. ".ext", "-out", name .. ".pem")
end

---Makes them. `locked.key` is the client's key under the password "opensesame".
---@async
---@return spec.Certificates
function certificates.make()
  local dir = assert(fs.temp_dir())
  openssl(dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
    "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=spec authority")
  issue(dir, "server", "localhost", "subjectAltName=IP:127.0.0.1")
  issue(dir, "client", "client", "extendedKeyUsage=clientAuth")
  openssl(dir, "pkey", "-in", "client.key", "-aes256", "-passout", "pass:opensesame", "-out",
    "locked.key")
  return setmetatable({ dir = dir }, Certificates)
end

---Gives the path of one of them.
---@param name string
---@return string
function Certificates:path(name)
  return self.dir .. "/" .. name
end

---Gives the text of one of them.
---@param name string
---@return string
function Certificates:text(name)
  return assert(fs.read(self:path(name)))
end

---Removes them. May run twice.
function Certificates:close()
  fs.remove(self.dir, { recursive = true })
end

Certificates.__close = Certificates.close

---Starts `openssl s_server -www` with the server's certificate; it ends with its block.
---@async
---@param ... string further options of s_server
---@return { url: string }
function Certificates:serve(...)
  local child = assert(proc.start {
    argv = { "openssl", "s_server", "-accept", "127.0.0.1:0", "-www", "-cert", "server.pem", "-key",
      "server.key", ... },
    cwd = self.dir,
  })
  local port
  repeat port = assert(child:read_line()):match("^ACCEPT.*:(%d+)") until port
  return setmetatable({ url = "https://127.0.0.1:" .. port .. "/" }, {
    __close = function()
      child:kill("KILL")
      child:wait()
    end,
  })
end

return certificates
