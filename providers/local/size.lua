---What the name of a size says, as clouds have it.
local error_ = require "kiln.error"

local size = {}

local least = 64 << 20

---Gives what a machine is bounded by: "s-1vcpu-512mb-10gb" and "2gb" name processors; memory, then
---disk. What a name does not say is nil. Raises `invalid` for a size with which nothing boots.
---@param name string?
---@return { vcpus: string?, memory: string?, disk: string? } bounds in bytes
function size.bounds(name)
  local text, bytes = (name or ""):lower(), {}
  for count, unit in text:gmatch "%f[%w](%d+)([mg])b%f[%W]" do
    local amount = tonumber(count) << (unit == "g" and 30 or 20)
    if amount < least then
      error_.raise { kind = "invalid", message = ("size %s: a machine does not boot with less than "
        .. "64mb of memory, nor of disk"):format(name) }
    end
    bytes[#bytes + 1] = ("%d"):format(amount)
  end
  return { vcpus = text:match "%f[%w](%d+)vcpu", memory = bytes[1], disk = bytes[2] }
end

return size
