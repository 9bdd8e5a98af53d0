---Managed databases: looked up by name, created, opened for machines with a tag. They outlive every
---release and are never replaced.
local crypto = require "kiln.crypto"
local error_ = require "kiln.error"
local json = require "kiln.json"
local secret = require "kiln.secret"
local create = require "providers.digitalocean.create"
local naming = require "providers.digitalocean.naming"

local databases = {}

---The row has no password: rows go into journals.
local function row_of(database)
  local connection = database.private_connection or database.connection or {}
  return {
    id = database.id, name = database.name, tags = (naming.read(database.tags, database.name)),
    state = database.status, engine = database.engine, version = database.version,
    host = connection.host, port = connection.port, user = connection.user,
    database = connection.database, ssl = connection.ssl ~= false,
  }
end

---Finds a database by name.
---@async
---@param self kiln.digitalocean.Driver
---@param name string
---@return table?
function databases.find(self, name)
  -- This list has no pages.
  for _, one in ipairs(self.api:call("GET", "/v2/databases").databases or {}) do
    if one.name == name then return row_of(one) end
  end
end

---Makes a database; one of that name is taken as it is. `await` waits until it is online.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { name: string, engine: string?, version: string?, size: string?, nodes: integer?,
---  tags: table? } ("pg", the newest, "db-s-1vcpu-1gb", 1)
---@return table database
function databases.create(self, spec)
  local there = databases.find(self, spec.name)
  if there then return there end
  local row = create(self.api, {
    path = "/v2/databases",
    body = {
      name = spec.name, engine = spec.engine or "pg", version = spec.version,
      size = spec.size or "db-s-1vcpu-1gb", num_nodes = spec.nodes or 1,
      region = self.options.region, private_network_uuid = self.options.vpc,
      tags = json.array { naming.ours, table.unpack(naming.tags_of(spec.tags or {})) },
    },
    read = function(answer) return row_of(answer.database) end,
    find = function() return databases.find(self, spec.name) end,
  })
  self.project:adopt({ row }, "dbaas")
  return row
end

---Waits until a database is online. A new one may answer 404 for a while. Raises `failed` when it
---has gone away again, `timeout`.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@return table database
function databases.await(self, id)
  local known, missing = false, 0
  return self.wait:answer {
    path = "/v2/databases/" .. id, what = "database " .. id, kind = "database", within = 1800,
    seen = function(answer)
      if not answer then
        missing = missing + 1
        if known or missing > 10 then
          error_.raise { kind = "failed",
            message = ("database %s: it was accepted and is not there any more"):format(id) }
        end
        return nil
      end
      known = true
      local row = row_of(answer.database)
      return row.state == "online" and row or nil
    end,
  }
end

---Gives what must not be in a journal: the password and the URI, as secrets, and the CA's
---certificate.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@return { password: userdata, uri: userdata, ca: string }
function databases.secrets(self, id)
  local path = "/v2/databases/" .. id
  local database = self.api:call("GET", path).database
  local connection = database.private_connection or database.connection or {}
  for _, field in ipairs { "password", "uri" } do
    if type(connection[field]) ~= "string" then
      error_.raise { kind = "failed", message = ("DigitalOcean answered 200 to GET %s without "
        .. "database.%s.%s"):format(path, database.private_connection and "private_connection"
        or "connection", field) }
    end
  end
  local ca = self.api:call("GET", ("/v2/databases/%s/ca"):format(id)).ca.certificate
  return {
    password = secret.remember(connection.password), uri = secret.remember(connection.uri),
    ca = crypto.unbase64(ca),
  }
end

---Lets machines with a recipe's tag in, whatever they are called, now and later. The API replaces
---all rules at once, so those that are there are sent along.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
---@param tag string a tag as DigitalOcean has it
function databases.allow(self, id, tag)
  local path = ("/v2/databases/%s/firewall"):format(id)
  self.tags:make(tag)
  local rules = json.array {}
  for _, rule in ipairs(self.api:call("GET", path).rules or {}) do
    if rule.type == "tag" and rule.value == tag then return end
    rules[#rules + 1] = { type = rule.type, value = rule.value, uuid = rule.uuid }
  end
  rules[#rules + 1] = { type = "tag", value = tag }
  self.api:call("PUT", path, { rules = rules })
end

---Deletes a database with all that is in it.
---@async
---@param self kiln.digitalocean.Driver
---@param id string
function databases.destroy(self, id)
  self.api:delete("/v2/databases/" .. id)
end

return databases
