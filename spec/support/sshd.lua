---A private sshd on loopback for a spec: its own keys, configuration and log in a directory of its
---own, a free port, stopped by its pid.
local timer = require "rt.timer"

local sshd = {}

---@class spec.Sshd
---@field host string
---@field port integer
---@field user string
---@field key string the private key that may log in
---@field host_key string the host's public ed25519 key
---@field dir string
---@field pid integer
local Sshd = {}
Sshd.__index = Sshd

local function quote(word)
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function output(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read("a")
  pipe:close()
  return (text:gsub("%s+$", ""))
end

---Makes a key pair in the server's directory.
---@param name string
---@param arguments string of ssh-keygen
---@return string private, string public
function Sshd:keygen(name, arguments)
  local path = self.dir .. "/" .. name
  output(("ssh-keygen -q %s -C %s -f %s </dev/null"):format(
    arguments:find("-N", 1, true) and arguments or arguments .. " -N ''", name, quote(path)))
  return read(path), (read(path .. ".pub"):gsub("%s+$", ""))
end

---Lets a key log in.
---@param public string
function Sshd:authorize(public)
  local file = assert(io.open(self.dir .. "/authorized_keys", "ab"))
  file:write(public, "\n")
  file:close()
end

function Sshd:log()
  return read(self.dir .. "/log")
end

local function launch(self, extra)
  self.port = math.random(20000, 59999)
  write(self.dir .. "/config", ([[
Port %d
ListenAddress 127.0.0.1
HostKey %s/host
AuthorizedKeysFile %s/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel VERBOSE
MaxStartups 100
Subsystem sftp internal-sftp
SetEnv HOME=%s
%s
]]):format(self.port, self.dir, self.dir, self.dir, extra or "")) -- bash reads ~/.bashrc
  local pid = output(("/usr/sbin/sshd -D -e -f %s/config 2>%s/log >/dev/null & echo $!"):format(
    self.dir, self.dir))
  self.pid = assert(math.tointeger(tonumber(pid)))
  for _ = 1, 250 do
    local log = self:log()
    if log:find("Server listening", 1, true) then return true end
    if log:find("Cannot bind", 1, true) then return false end
    timer.sleep(0.02)
  end
  error("sshd does not start: " .. self:log())
end

---Starts a server.
---@async
---@param opts? { config: string?, host_key: string? } lines of sshd_config; ssh-keygen arguments
---@return spec.Sshd
function sshd.start(opts)
  opts = opts or {}
  if output("id -u") == "0" then os.execute("mkdir -p /run/sshd") end
  local self = setmetatable({
    host = "127.0.0.1", user = output("id -un"), dir = output("mktemp -d /tmp/kiln-sshd.XXXXXX"),
  }, Sshd)
  local _, host_public = self:keygen("host", opts.host_key or "-t ed25519")
  self.host_key = host_public
  local public
  self.key, public = self:keygen("user", "-t ed25519")
  self:authorize(public)
  for _ = 1, 20 do
    if launch(self, opts.config) then return self end
  end
  error("sshd finds no free port")
end

---The processes that serve a connection now.
---@return integer[]
function Sshd:children()
  local pids = {}
  for pid in output("pgrep -P " .. self.pid):gmatch("%d+") do
    pids[#pids + 1] = math.tointeger(tonumber(pid))
  end
  return pids
end

---Sends a signal to the server and to the processes of its connections.
---@param name string "STOP"
function Sshd:signal(name)
  local pids = self:children()
  for _, pid in ipairs(self:children()) do -- privilege separation adds a level
    for child in output("pgrep -P " .. pid .. " sshd"):gmatch("%d+") do pids[#pids + 1] = child end
  end
  table.insert(pids, self.pid)
  os.execute(("kill -%s %s 2>/dev/null"):format(name, table.concat(pids, " ")))
end

---Options of rt.ssh.connect for it.
---@param more? table
---@return table
function Sshd:options(more)
  local options = {
    host = self.host, port = self.port, user = self.user, key = self.key,
    host_key = self.host_key, timeout = 10,
  }
  for key, value in pairs(more or {}) do options[key] = value end
  return options
end

function Sshd:stop()
  if not self.pid then return end
  self:signal("CONT")
  self:signal("TERM")
  self.pid = nil
  os.execute("rm -rf " .. quote(self.dir))
end

Sshd.__close = Sshd.stop
sshd.quote = quote
sshd.read = read
sshd.write = write
sshd.output = output

return sshd
