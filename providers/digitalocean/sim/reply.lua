---Answers: bodies, pages, and refusals as the API words them.
---
---Success codes: the OpenAPI description, github.com/digitalocean/openapi at 7c1300c. Pages and
---errors: https://docs.digitalocean.com/reference/api/ ("Links & Meta", "HTTP Statuses").
local json = require "kiln.json"

local reply = {}

---@class kiln.do.sim.Refusal
---@field status integer
---@field id string
---@field message string
local Refusal = {}
Refusal.__index = Refusal

---Ends a handler with an error body.
---@param status integer
---@param id string
---@param message string
function reply.refuse(status, id, message)
  error(setmetatable({ status = status, id = id, message = message }, Refusal), 0)
end

---Refuses with 422, the answer for a request that cannot be done as it is.
---@param message string
---@param ... any for `message`, a format
function reply.unprocessable(message, ...)
  reply.refuse(422, "unprocessable_entity", message:format(...))
end

---Refuses with 404.
function reply.not_found()
  reply.refuse(404, "not_found", "The resource you were accessing could not be found.")
end

---Refuses because an event of the same resource runs.
---@param what? string "Droplet"
function reply.pending(what)
  reply.unprocessable("%s already has a pending event.", what or "Droplet")
end

---Tells whether an error is a refusal; anything else is a fault of the simulator.
---@param value any
---@return boolean
function reply.is_refusal(value)
  return getmetatable(value) == Refusal
end

---Gives an answer with a JSON body.
---@param status integer
---@param body table
---@return table answer
function reply.json(status, body)
  return { status = status, headers = {}, json = body }
end

---Gives the answer without a body.
---@return table answer
function reply.none()
  return { status = 204, headers = {} }
end

---Gives the answer for a refusal.
---@param refusal kiln.do.sim.Refusal
---@param request_id string
---@return table answer
function reply.refused(refusal, request_id)
  return reply.json(refusal.status,
    { id = refusal.id, message = refusal.message, request_id = request_id })
end

local function whole(text, default)
  local value = math.tointeger(tonumber(text))
  return value and value >= 1 and value or default
end

local function page_url(request, page, size)
  local parts = {}
  for name, value in pairs(request.query) do
    if name ~= "page" and name ~= "per_page" then parts[#parts + 1] = name .. "=" .. value end
  end
  table.sort(parts)
  parts[#parts + 1] = "page=" .. page
  if request.query.per_page then parts[#parts + 1] = "per_page=" .. size end
  return request.base .. request.path .. "?" .. table.concat(parts, "&")
end

---Gives one page of a list: 20 rows unless asked for up to 200; only links that lead somewhere.
---@param request table
---@param name string key of the list
---@param rows table[]
---@param show fun(row: table): table what the client sees of a row
---@return table answer
function reply.page(request, name, rows, show)
  local size = math.min(whole(request.query.per_page, 20), 200)
  local page = whole(request.query.page, 1)
  local last = math.max(1, math.ceil(#rows / size))
  local shown = json.array {}
  for index = (page - 1) * size + 1, math.min(page * size, #rows) do
    shown[#shown + 1] = show(rows[index])
  end
  local pages = {}
  if page > 1 then
    pages.first = page_url(request, 1, size)
    pages.prev = page_url(request, math.min(page - 1, last), size)
  end
  if page < last then
    pages.next = page_url(request, page + 1, size)
    pages.last = page_url(request, last, size)
  end
  return reply.json(200, {
    [name] = shown,
    links = next(pages) and { pages = pages } or {},
    meta = { total = #rows },
  })
end

return reply
