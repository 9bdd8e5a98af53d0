---Databases outlive every release: looked up, made when told to, never replaced or destroyed.
local json = require "rt.json"
local signature = require "kiln.engine.signature"
local error_ = require "kiln.error"
local op = require "kiln.op"
local owner = require "kiln.provider.owner"
local scope = require "kiln.scope"

local databases = {}

---@class kiln.Database
---@field id string
---@field name string
---@field host string
---@field port integer
---@field user string
---@field database string
---@field ssl boolean whether the connection must be encrypted
---@field private cloud kiln.Cloud
local Database = {}
Database.__index = Database

---Refuses another environment's database, or another project's, unless the recipe shares it.
local function check_owner(self, row, spec)
  local holder = owner.of(self.run, "database", row)
  if spec.shared or not owner.is_foreign(self.run, holder) then return end
  error_.raise { kind = "invalid", message = ("database %s %s, and this is environment %s; nothing "
    .. "was changed: leave the name out, `run.cloud:database(nil, {…})`, and it is called %s-db; "
    .. "or share it on purpose: database(\"%s\", { shared = true })"):format(row.name,
    owner.text(self.run, holder), self.run.env, self.run.name, row.name) }
end

---Makes a database; one of that name is taken as it is. It stays whatever becomes of the run.
local function make(self, name, spec)
  local store, run, driver = self.run.store, self.run, self.driver
  local function note(token, row)
    if row then store:ledger_live(token, row.id, json.encode { id = row.id, name = name }) end
    return row
  end
  return op.call {
    name = "database " .. name, class = "adopt", args = { name = name, engine = spec.engine },
    quiet = true, ledger = true,
    prepare = function() run:labels() end, -- makes the project's id where there is none
    perform = function(token)
      store:ledger_intent {
        run = run.id, key = scope.state().operation.key, provider = self.name,
        kind = "database", name = name, token = token, service = run.service,
      }
      return note(token, driver:create_database {
        name = name, token = token, engine = spec.engine, version = spec.version,
        size = spec.size, nodes = spec.nodes, tags = run:labels { kiln_service = run.name },
      })
    end,
    settle = function(token) return note(token, driver:database(name)) end,
  }
end

local function row_of(self, name, spec)
  local there = op.call {
    name = "look up database " .. name, class = "read", args = { name = name }, quiet = true,
    perform = function()
      local row = self.driver:database(name)
      if row then check_owner(self, row, spec) end
      return row
    end,
  }
  if there then return there end
  if not spec.create then
    error_.raise { kind = "not_found", message = ("cloud '%s' has no database '%s'; kiln makes it "
      .. "when the recipe says database(\"%s\", { create = true })"):format(self.name, name, name) }
  end
  return make(self, name, spec)
end

---Looks a database up by name and waits until it is online; makes it when told to. Other stages can
---go on meanwhile, in a `scope.all`. Raises `not_found`, `unsupported`, `failed`, `timeout`.
---@async
---@param self kiln.Cloud
---@param name? string (the service's in its environment, and "-db": "app-staging-db")
---@param spec? { create: boolean?, engine: string?, version: string?, size: string?,
---  nodes: integer?, shared: boolean? } make it when there is none (false); "pg", the cloud's
---  newest and smallest; take it although another environment or project made it (false)
---@return kiln.Database
function databases.database(self, name, spec)
  name = name or self.run.name .. "-db"
  self:need "databases"
  local row = row_of(self, name, spec or {})
  if row.state ~= "online" then
    row = op.call {
      name = "database " .. name .. " comes online", class = "read", quiet = true,
      args = { id = row.id }, perform = function() return self.driver:await_database(row.id) end,
    }
  end
  return setmetatable({
    id = row.id, name = name, host = row.host, port = row.port, user = row.user,
    database = row.database, ssl = row.ssl, cloud = self,
  }, Database)
end

---Gives what no journal may hold; asked for anew in every process.
---@async
---@return { password: userdata, uri: userdata, ca: string } secrets, and the CA's certificate
function Database:secrets()
  self.known = self.known or self.cloud.driver:database_secrets(self.id)
  return self.known
end

---Lets machines in by a tag, now and later ones: without arguments, those of the run's service in
---its environment and project.
---@async
---@param key? string ("kiln_owner")
---@param value? string (see `Run:owner_label`)
function Database:allow(key, value)
  if not key then key, value = "kiln_owner", self.cloud.run:owner_label() end
  op.call {
    name = ("database %s lets %s=%s in"):format(self.name, key, value), class = "idempotent",
    args = { id = self.id, key = key, value = value }, quiet = true,
    perform = function() self.cloud.driver:allow_database(self.id, key, value) end,
  }
end

signature.class("database", Database)

return databases
