---Hosts as `ssh` takes them on its command line and in ProxyJump.
local error_ = require "kiln.error"

local config_jump = {}

---@class kiln.ssh.Jump
---@field host string
---@field user? string
---@field port? integer

local function invalid(place, text, ...)
  error_.raise { kind = "invalid", message = ("%s: %s"):format(place, text:format(...)) }
end

local function port_of(word, place)
  local port = math.tointeger(tonumber(word))
  if port < 1 or port > 65535 then invalid(place, "'%s' is no port", word) end
  return port
end

---Reads "[user@]host[:port]" or "ssh://[user@]host[:port]"; an IPv6 address stands in brackets.
---@param text string
---@param place? string for the error
---@return kiln.ssh.Jump
function config_jump.parse(text, place)
  local rest = text:gsub("^ssh://", "")
  if rest ~= text then rest = rest:gsub("/$", "") end
  local user, where = rest:match("^(.*)@([^@]*)$")
  where = where or rest
  local host, port = where:match("^%[([%x:.%%%w]+)%]:?(%d*)$")
  if not host then host, port = where:match("^([^:/%s%[%]]+)$"), "" end
  if not host then host, port = where:match("^([^:/%s%[%]]+):(%d+)$") end
  if not host or host:sub(1, 1) == "-" or user == "" or text:find("[%c ]") then
    invalid(place or "ssh", "'%s' is not of the form [user@]host[:port]", text:gsub("%c", "?"))
  end
  return { host = host, user = user, port = port ~= "" and port_of(port, place or text) or nil }
end

---Reads a host as `ssh` takes it on its command line: "host", "user@host" or
---"ssh://[user@]host[:port]". Raises `invalid`.
---@param text string
---@return kiln.ssh.Jump
function config_jump.target(text)
  if text:find("^ssh://") then return config_jump.parse(text) end
  local user, host = text:match("^(.+)@([^@]+)$")
  return { host = host or text, user = user }
end

---Reads the value of ProxyJump: jumps between commas, or "none". Raises `invalid`.
---@param text string
---@param place string "file:line"
---@return kiln.ssh.Jump[]
function config_jump.list(text, place)
  text = text:gsub("^[ \t=]+", ""):gsub("#.*$", ""):gsub("%s+$", "")
  if text:lower() == "none" then return {} end
  local jumps = {}
  for one in (text .. ","):gmatch("([^,]*),") do
    jumps[#jumps + 1] = config_jump.parse(one, place)
  end
  return jumps
end

return config_jump
