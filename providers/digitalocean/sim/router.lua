---Routes: which handler answers a method and a path.
local error_ = require "kiln.error"

local router = {}

---@class kiln.do.sim.Router
local Router = {}
Router.__index = Router

---Makes a router from what resources add.
---@param resources { routes: fun(add: function) }[]
---@return kiln.do.sim.Router
function router.new(resources)
  local self = setmetatable({ by_length = {}, patterns = {} }, Router)
  for _, resource in ipairs(resources) do
    resource.routes(function(method, pattern, handler) self:add(method, pattern, handler) end)
  end
  return self
end

local function parts_of(path)
  local parts = {}
  for part in path:gmatch("[^/]+") do parts[#parts + 1] = part end
  return parts
end

---Adds a route. Of two that match, the one that was added first answers.
---@param method string
---@param pattern string "/v2/droplets/{id}"
---@param handler fun(world: table, request: table): table
function Router:add(method, pattern, handler)
  local parts = parts_of(pattern)
  local routes = self.by_length[#parts] or {}
  self.by_length[#parts] = routes
  for _, route in ipairs(routes) do
    if route.method == method and route.pattern == pattern then
      error_.raise { kind = "error", message = ("%s %s is routed twice"):format(method, pattern) }
    end
  end
  routes[#routes + 1] = { method = method, pattern = pattern, parts = parts, handler = handler }
  self.patterns[#self.patterns + 1] = method .. " " .. pattern
end

local function match(route, parts)
  local found = {}
  for index, part in ipairs(route.parts) do
    local name = part:match("^{(.*)}$")
    if name then
      found[name] = parts[index]
    elseif part ~= parts[index] then
      return nil
    end
  end
  return found
end

---Finds the handler for a request.
---@param method string
---@param path string
---@return function? handler
---@return table? parameters by the names in the pattern
---@return boolean? known there is such a path, for other methods
function Router:find(method, path)
  local parts, known = parts_of(path), false
  for _, route in ipairs(self.by_length[#parts] or {}) do
    local parameters = match(route, parts)
    if parameters then
      known = true
      if route.method == method then return route.handler, parameters, true end
    end
  end
  return nil, nil, known
end

return router
