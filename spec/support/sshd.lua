---A private sshd on loopback for a spec: its own keys, configuration and log in a directory of its
---own, a free port, stopped by its pid.
local fs = require "rt.fs"
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

function sshd.quote(word)
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

function sshd.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

function sshd.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

function sshd.output(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read("a")
  pipe:close()
  return (text:gsub("%s+$", ""))
end

---Makes the folders `here` and `there` in the server's directory, empty: both sides of a transfer
---are this machine. The server's process of an ended transfer may still write there for a moment.
---@async
---@return string here, string there
function Sshd:sides()
  for _, path in ipairs { self.dir .. "/here", self.dir .. "/there" } do
    sshd.output("chmod -R u+rwx " .. path .. " 2>/dev/null")
    for _ = 1, 500 do
      fs.remove(path, { recursive = true })
      if not fs.stat(path) then break end
      timer.sleep(0.01)
    end
    assert(fs.mkdir(path))
  end
  return self.dir .. "/here", self.dir .. "/there"
end

---Makes a key pair in the server's directory.
---@param name string
---@param arguments string of ssh-keygen
---@return string private, string public
function Sshd:keygen(name, arguments)
  local path = self.dir .. "/" .. name
  sshd.output(("ssh-keygen -q %s -C %s -f %s </dev/null"):format(
    arguments:find("-N", 1, true) and arguments or arguments .. " -N ''", name, sshd.quote(path)))
  return sshd.read(path), (sshd.read(path .. ".pub"):gsub("%s+$", ""))
end

---Lets a key log in.
---@param public string
function Sshd:authorize(public)
  local file = assert(io.open(self.dir .. "/authorized_keys", "ab"))
  file:write(public, "\n")
  file:close()
end

function Sshd:log()
  return sshd.read(self.dir .. "/log")
end

---OpenSSH 9.8 shuts those out for a while whose logins fail: here they fail on purpose.
local version = sshd.output("ssh -V 2>&1"):match("OpenSSH_(%d+%.%d+)")
local penalties = tonumber(version) >= 9.8 and "PerSourcePenalties no" or ""

local function write_config(self)
  sshd.write(self.dir .. "/config", ([[
MaxStartups 100
%s
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
Subsystem sftp internal-sftp
SetEnv HOME=%s
%s
]]):format(self.config, self.port, self.dir, self.dir, self.dir, penalties)) -- bash reads ~/.bashrc
end

---Starts the server on its port; false when the port is taken.
---@async
---@return boolean
function Sshd:launch()
  write_config(self)
  local pid = sshd.output(("%s /usr/sbin/sshd -D -e -f %s/config 2>%s/log >/dev/null & echo $!")
    :format(self.within, self.dir, self.dir))
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
---@param opts? { config: string?, host_key: string?, within: string? } lines of sshd_config;
---  ssh-keygen arguments; a command before sshd's that ends in exec: a namespace of its own
---@return spec.Sshd
function sshd.start(opts)
  opts = opts or {}
  if sshd.output("id -u") == "0" then os.execute("mkdir -p /run/sshd") end
  local self = setmetatable({
    host = "127.0.0.1", user = sshd.output("id -un"), config = opts.config or "",
    within = opts.within or "",
    dir = sshd.output("mktemp -d /tmp/kiln-sshd.XXXXXX"),
  }, Sshd)
  local _, host_public = self:keygen("host", opts.host_key or "-t ed25519")
  self.host_key = host_public
  local public
  self.key, public = self:keygen("user", "-t ed25519")
  self:authorize(public)
  for _ = 1, 20 do
    self.port = math.random(20000, 59999)
    if self:launch() then return self end
  end
  error("sshd finds no free port")
end

---The server's processes: the listener and those of its connections.
---@return integer[] listener first
function Sshd:processes()
  local pids, at = { self.pid }, 1
  while pids[at] do
    for pid in sshd.output(("pgrep -P %d sshd"):format(pids[at])):gmatch("%d+") do
      pids[#pids + 1] = math.tointeger(tonumber(pid))
    end
    at = at + 1
  end
  return pids
end

---Sends a signal to the processes of its connections, and to the listener too if asked.
---@param name string "STOP"
---@param opts? { listener: boolean? }
function Sshd:signal(name, opts)
  local pids = self:processes()
  if not (opts and opts.listener) then table.remove(pids, 1) end
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

---Ends the server and its connections; `launch` starts it again.
function Sshd:halt()
  if not self.pid then return end
  local pids = table.concat(self:processes(), " ")
  self.pid = nil
  os.execute(("kill -TERM %s 2>/dev/null; kill -CONT %s 2>/dev/null"):format(pids, pids))
end

---Ends the server and removes its directory.
function Sshd:stop()
  self:halt()
  os.execute("rm -rf " .. sshd.quote(self.dir))
end

Sshd.__close = Sshd.stop

return sshd
