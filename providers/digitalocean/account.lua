---What belongs to the account rather than to a machine: tags, SSH keys, projects, limits.
local crypto = require "kiln.crypto"
local error_ = require "kiln.error"
local json = require "kiln.json"
local create = require "providers.digitalocean.create"

local account = {}

---@class kiln.digitalocean.Tags
local Tags = {}
Tags.__index = Tags

---Makes what knows the account's tags.
---@param client kiln.digitalocean.Api
---@return kiln.digitalocean.Tags
function account.tags(client)
  return setmetatable({ api = client, made = {} }, Tags)
end

---Makes a tag; one that is there is fine.
---@async
---@param name string
function Tags:make(name)
  if self.made[name] then return end
  create(self.api, {
    path = "/v2/tags", body = { name = name }, look_for = 2,
    read = function() return true end,
    find = function() return self.api:find("/v2/tags/" .. name) and true or nil end,
  })
  self.made[name] = true
end

---Puts a tag on things, or takes it off.
---@async
---@param method "POST"|"DELETE"
---@param name string
---@param kind "droplet"|"image"|"volume"
---@param ids string[]
function Tags:resources(method, name, kind, ids)
  local resources = json.array {}
  for index, id in ipairs(ids) do
    resources[index] = { resource_id = tostring(id), resource_type = kind }
  end
  self.api:serial(method, ("/v2/tags/%s/resources"):format(name), { resources = resources },
    { safe = true })
end

---@class kiln.digitalocean.Keys
local Keys = {}
Keys.__index = Keys

---Makes what knows the account's SSH keys.
---@param client kiln.digitalocean.Api
---@return kiln.digitalocean.Keys
function account.keys(client)
  return setmetatable({ api = client, known = {} }, Keys)
end

---Gives the fingerprint of a public key that the account knows; makes it known first. Without a key
---in the request DigitalOcean sets a root password that has to be changed at the first login. The
---key is looked up by its fingerprint: the list of keys has a rate limit of its own.
---@async
---@param public string one line
---@return string fingerprint MD5, as the API writes it
function Keys:fingerprint(public)
  local fingerprint = crypto.md5_fingerprint(public)
  if self.known[fingerprint] then return fingerprint end
  local path = "/v2/account/keys/" .. fingerprint
  if not self.api:find(path) then
    local ok, err = xpcall(create, error_.from, self.api, {
      path = "/v2/account/keys",
      body = { name = "kiln " .. fingerprint:gsub(":", ""):sub(1, 8), public_key = public },
      look_for = 2,
      read = function() return true end,
      find = function() return self.api:find(path) and true or nil end,
    })
    local there = not ok and (err.said or ""):find("already in use", 1, true)
    if not ok and not (there and self.api:find(path)) then error(err, 0) end
  end
  self.known[fingerprint] = true
  return fingerprint
end

---@class kiln.digitalocean.Project
local Project = {}
Project.__index = Project

---Makes what puts things into a project.
---@param client kiln.digitalocean.Api
---@param name? string a project's name or id; things stay in the default project without one
---@return kiln.digitalocean.Project
function account.project(client, name)
  return setmetatable({ api = client, name = name }, Project)
end

---Finds the project's id. Raises `not_found`.
---@async
---@return string id
function Project:find()
  if self.id then return self.id end
  for _, one in ipairs(self.api:list("/v2/projects", "projects")) do
    if one.id == self.name or one.name == self.name then self.id = one.id end
  end
  if not self.id then
    error_.raise { kind = "not_found", message = ("the account has no project '%s'")
      :format(self.name) }
  end
  return self.id
end

---Takes things that were just made into the project. Whatever happens here, they are there: an
---error has `effect = "maybe"`.
---@async
---@param rows { id: string }[]
---@param kind string "droplet", "floatingip", "loadbalancer", "dbaas"
---@param opts? { leaves: boolean? } they are in a project that they have to leave: without one of
---  the user's they go to the default project (false)
function Project:adopt(rows, kind, opts)
  local leaves = opts and opts.leaves
  if not self.name and not leaves or #rows == 0 then return end
  local resources = json.array {}
  for index, row in ipairs(rows) do resources[index] = ("do:%s:%s"):format(kind, row.id) end
  local ok, err = xpcall(function()
    local project = self.name and self:find() or "default"
    self.api:serial("POST", ("/v2/projects/%s/resources"):format(project),
      { resources = resources }, { safe = true })
  end, error_.from)
  if ok then return end
  err.effect = "maybe"
  error(err, 0)
end

return account
