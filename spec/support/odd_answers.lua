---Answers of an API with one field of a wrong shape: null, missing, or of another type.
local json = require "rt.json"

local odd_answers = {}

odd_answers.ways = { "null", "missing", "type" }

---Returns a request's path without what names one thing: "/v2/droplets/*/actions".
---@param path string
---@return string
function odd_answers.route(path)
  local words, at = {}, 0
  for word in path:match("^/v2/([^?]*)"):gmatch("[^/]+") do
    at = at + 1
    words[at] = at % 2 == 0 and words[1] ~= "account" and "*" or word
  end
  return "/v2/" .. table.concat(words, "/")
end

---Lists the fields of an answer; of a list, those of its first item: "droplets[1].id".
---@param body string JSON
---@return string[] places
function odd_answers.fields(body)
  local places = {}
  local function walk(value, place)
    if place ~= "" then places[#places + 1] = place end
    if type(value) ~= "table" then return end
    if json.is_array(value) then
      if #value > 0 then walk(value[1], place .. "[1]") end
      return
    end
    for name, item in pairs(value) do walk(item, place == "" and name or place .. "." .. name) end
  end
  if body ~= "" then walk(json.decode(body), "") end
  table.sort(places)
  return places
end

---A value of another type, which is none of the types that the API could mean.
local function other_type(value)
  if type(value) == "string" then return 17 end
  if value == json.null then return false end
  return type(value) == "table" and 17 or { odd = "answer" }
end

---The keys that lead to a place: "droplets[1].id" is { "droplets", 1, "id" }.
local function keys_of(place)
  local keys = {}
  for name, index in place:gmatch("([^%.%[%]]*)%[?(%d*)%]?%.?") do
    if name ~= "" then keys[#keys + 1] = name end
    if index ~= "" then keys[#keys + 1] = math.tointeger(tonumber(index)) end
  end
  return keys
end

local function change_one(answer, place, way)
  local keys, holder = keys_of(place), answer
  for index = 1, #keys - 1 do
    holder = type(holder) == "table" and holder[keys[index]] or nil
  end
  local last = keys[#keys]
  if type(holder) ~= "table" or holder[last] == nil then return end
  if way == "type" then holder[last] = other_type(holder[last]) end
  if way == "null" then holder[last] = json.null end
  if way == "missing" then
    if json.is_array(holder) then table.remove(holder, last) else holder[last] = nil end
  end
end

---Changes fields of an answer, where it has them.
---@param body string JSON
---@param places string[] as `fields` gives them, fields before the objects that they are in
---@param way "null"|"missing"|"type"
---@return string body
function odd_answers.change(body, places, way)
  if body == "" or #places == 0 then return body end
  local answer = json.decode(body)
  for _, place in ipairs(places) do change_one(answer, place, way) end
  return json.encode(answer)
end

---Whether a message names a field. What is gone with all that holds it is named where it is looked
---for: a list by its first item's field, a field by the thing that it is in.
---@param message string
---@param place string
---@return boolean
function odd_answers.names(message, place)
  local told = message:match(" as ([^%s,]+)") or message:match("without (%S+)")
    or message:match(" in (%S+)$") or ""
  return told ~= "" and (place:sub(1, #told) == told or told:sub(1, #place) == place)
end

---Says what an error about an odd answer must not say or must say.
---@param err any
---@param case? { route: string, place: string } nil: several fields are odd
---@return string? problem
function odd_answers.problem_of(err, case)
  local message = type(err) == "table" and err.message or tostring(err)
  if type(err) ~= "table" or err.kind == "error" then return "no error of kiln's: " .. message end
  for _, words in ipairs { "attempt to ", "stdlib/", "providers/", "userdata" } do
    if message:find(words, 1, true) then return ("'%s' in: %s"):format(words, message) end
  end
  if not message:find("DigitalOcean answered 2%d%d to %u+ /v2/") then
    return "names no answer: " .. message
  end
  if not case then return nil end
  local path = message:match("to %u+ (/v2/%S*)")
  if odd_answers.route(path) ~= case.route then return "names another request: " .. message end
  if not odd_answers.names(message, case.place) then
    return ("does not name %s: %s"):format(case.place, message)
  end
end

return odd_answers
