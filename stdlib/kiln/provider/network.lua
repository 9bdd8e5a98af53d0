---DNS records and firewalls around a service.
local op = require "kiln.op"

local network = {}

---Makes a name's record say something; the domain is made when the account has it not.
---@async
---@param self kiln.Cloud
---@param spec { domain: string, name: string?, type: string?, data: string, ttl: integer? } "@" is
---  the domain itself; (the service's name in its environment, "A", 60 seconds)
---@return string changed what happened, for a step's line
function network.record(self, spec)
  self:need "dns"
  local record = {
    domain = spec.domain, name = spec.name or self.run.name, type = spec.type, data = spec.data,
    ttl = spec.ttl,
  }
  return op.call {
    name = ("record %s.%s"):format(record.name, spec.domain), class = "idempotent", quiet = true,
    args = { domain = spec.domain, name = record.name, data = spec.data, ttl = spec.ttl },
    perform = function()
      self.driver:create_domain(spec.domain)
      local changed = self.driver:set_record(record)
      return ("%s  %s"):format(spec.data, changed and "set" or "unchanged")
    end,
  }
end

---Opens ports of the machines with a tag, and no others.
---@async
---@param self kiln.Cloud
---@param name string
---@param spec { key: string?, value: string?, open: table<integer, string[]|true> } the tag (that
---  of the service in this environment and project); ports, each with the networks that may come
---  in, or true for all
---@return table firewall { id, name }
function network.firewall(self, name, spec)
  self:need "firewalls"
  local key, value = spec.key, spec.value
  if not key then key, value = "kiln_owner", self.run:owner_label() end
  local open = {}
  for port, from in pairs(spec.open) do open[tostring(port)] = from end
  return op.call {
    name = "firewall " .. name, class = "idempotent", quiet = true,
    args = { name = name, key = key, value = value, open = open },
    perform = function()
      return self.driver:set_firewall {
        name = name, key = key, value = value, open = spec.open,
      }
    end,
  }
end

return network
