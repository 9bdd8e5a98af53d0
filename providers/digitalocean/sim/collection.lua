---Rows by id, in the order in which they came.
local collection = {}

---@class kiln.do.sim.Collection
local Collection = {}
Collection.__index = Collection

---Makes an empty one.
---@return kiln.do.sim.Collection
function collection.new()
  return setmetatable({ rows = {}, by_id = {} }, Collection)
end

---Adds a row with an `id`.
---@generic T
---@param row T
---@return T row
function Collection:add(row)
  self.rows[#self.rows + 1] = row
  self.by_id[tostring(row.id)] = row
  return row
end

---Gives a row by its id, as a number or as text.
---@param id string|integer|nil
---@return table? row
function Collection:get(id)
  return id ~= nil and self.by_id[tostring(id)] or nil
end

---Takes a row out. One that is not there is fine.
---@param id string|integer
function Collection:remove(id)
  if not self.by_id[tostring(id)] then return end
  self.by_id[tostring(id)] = nil
  for place, row in ipairs(self.rows) do
    if tostring(row.id) == tostring(id) then
      table.remove(self.rows, place)
      return
    end
  end
end

---Lists the rows that a function accepts, oldest first.
---@param accepts? fun(row: table): any (all)
---@return table[]
function Collection:list(accepts)
  local found = {}
  for _, row in ipairs(self.rows) do
    if not accepts or accepts(row) then found[#found + 1] = row end
  end
  return found
end

---Finds the first row that a function accepts.
---@param accepts fun(row: table): any
---@return table? row
function Collection:find(accepts)
  for _, row in ipairs(self.rows) do
    if accepts(row) then return row end
  end
end

return collection
