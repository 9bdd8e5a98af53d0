---DNS records and firewalls around a service.
local error_ = require "kiln.error"
local op = require "kiln.op"
local owner = require "kiln.provider.owner"

local network = {}

local function refuse(record, text, ...)
  error_.raise { kind = "invalid", message = ("record %s.%s " .. text):format(record.name,
    record.domain, ...) }
end

---Refuses a record whose name another environment, project or service has.
local function check_owner(run, record, tags)
  local found = owner.of(run, "record", { tags = tags })
  if not owner.is_foreign(run, found) and found.service == run.name then return end
  refuse(record, "%s, and this is environment %s, service %s; nothing was changed: leave the name "
    .. "out, and it is called %s.%s, or take another one. If its owner is gone, delete the TXT "
    .. "record _kiln.%s.%s", owner.text(run, found), run.env, run.name, run.name, record.domain,
    record.name, record.domain)
end

---Refuses a record that is not this service's, before anything is changed.
local function check_record(self, record)
  local tags = self.driver:record_owner(record.domain, record.name)
  if tags then return check_owner(self.run, record, tags) end
  local there = self.driver:record(record.domain, record.name, record.type)
  if there and there.data ~= record.data and not record.replace then
    refuse(record, "leads to %s and was not made by kiln; nothing was changed: take another name, "
      .. "or say that kiln may change it: run.cloud:record { …, replace = true }", there.data)
  end
end

---Makes a name's record say something; the domain is made when the account has it not. A record of
---another environment, project or service is refused; so is one that kiln did not make, unless the
---recipe says `replace`. Raises `invalid`.
---@async
---@param self kiln.Cloud
---@param spec { domain: string, name: string?, type: string?, data: string, ttl: integer?,
---  replace: boolean? } "@" is the domain itself; (the service's name in its environment, "A",
---  60 seconds, false)
---@return string changed what happened, for a step's line
function network.record(self, spec)
  self:need "dns"
  local record = {
    domain = spec.domain, name = spec.name or self.run.name, type = spec.type or "A",
    data = spec.data, ttl = spec.ttl, replace = spec.replace,
  }
  op.call {
    name = ("owner of record %s.%s"):format(record.name, spec.domain), class = "read",
    quiet = true, args = { domain = spec.domain, name = record.name, data = spec.data },
    perform = function() check_record(self, record) end,
  }
  return op.call {
    name = ("record %s.%s"):format(record.name, spec.domain), class = "idempotent", quiet = true,
    args = { domain = spec.domain, name = record.name, data = spec.data, ttl = spec.ttl },
    prepare = function() self.run:labels() end, -- makes the project's id where there is none
    perform = function()
      self.driver:create_domain(spec.domain)
      check_owner(self.run, record, self.driver:claim_record(record.domain, record.name,
        self.run:labels { kiln_service = self.run.name }))
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
