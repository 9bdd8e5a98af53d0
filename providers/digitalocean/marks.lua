---Marks the creation of what can carry neither a name nor a tag while it is made: reserved IPs. The
---mark is a project of the account, named by the creation's token: what is made in it is of this
---creation, whatever became of the answer. When the IP has its name it leaves the project, which is
---deleted.
local error_ = require "kiln.error"
local ticker = require "kiln.ticker"
local create = require "providers.digitalocean.create"

local marks = {}

local empty_within = 60 -- seconds until the API knows that a project is empty

---Finds the mark of a creation.
---@async
---@param self kiln.digitalocean.Driver
---@param token string
---@return string? project its id
function marks.find(self, token)
  for _, one in ipairs(self.api:list("/v2/projects", "projects")) do
    if one.name == token then return one.id end
  end
end

---Makes the mark of a creation; one that is there is taken.
---@async
---@param self kiln.digitalocean.Driver
---@param token string
---@return string? project its id; nil: the token of the account may not make projects
function marks.take(self, token)
  local function find() return marks.find(self, token) end
  local there = find()
  if there then return there end
  local ok, result = xpcall(create, error_.from, self.api, {
    path = "/v2/projects", look_for = 2, find = find,
    read = function(answer) return answer.project.id end,
    body = {
      name = token, purpose = "Operational / Developer tooling",
      description = "kiln reserves an IP here; this project is deleted when that is done",
    },
  })
  if ok then return result end
  if error_.is(result, "denied", "limit", "invalid", "not_found") then return nil end
  error(result, 0)
end

---Lists the reserved IPs that were made under a mark and have not left it.
---@async
---@param self kiln.digitalocean.Driver
---@param project string
---@return table[] reserved_ips as the API has them
function marks.reserved(self, project)
  local found = {}
  for _, reserved in ipairs(self.api:list("/v2/reserved_ips", "reserved_ips")) do
    if reserved.project_id == project then found[#found + 1] = reserved end
  end
  return found
end

---Moves what kiln keeps out of a mark: into the user's project, else into the default one.
local function leave(self, ip)
  self.project:adopt({ { id = ip } }, "floatingip", { leaves = true })
end

---Removes a mark. The address that is kept leaves it; what else was made under it, such as the twin
---of a creation that was sent twice, is released. Raises what the API refuses.
---@async
---@param self kiln.digitalocean.Driver
---@param project string
---@param kept? string ip
function marks.remove(self, project, kept)
  local deadline = ticker.now() + empty_within
  if kept then leave(self, kept) end
  while true do
    local ok, err = xpcall(self.api.delete, error_.from, self.api, "/v2/projects/" .. project)
    if ok then return end
    if err.status ~= 412 or ticker.now() > deadline then error(err, 0) end
    for _, reserved in ipairs(marks.reserved(self, project)) do
      if reserved.ip == kept then
        leave(self, kept)
      else
        self.api:delete("/v2/reserved_ips/" .. reserved.ip)
      end
    end
    ticker.pause(1)
  end
end

return marks
