---Why an image is baked: what differs from the newest earlier image of its name.
---
---The ledger keeps with every image what its identity consisted of: short digests by what people
---call the parts, and one of each thing that the build used.
local crypto = require "rt.crypto"
local json = require "rt.json"
local uses = require "kiln.image.uses"

local changes = {}

local MOST = 300 -- parts kept with an image
local LONGEST = 100 -- bytes of a part's name
local SHOWN = 3

local function short(digest)
  return crypto.sha256(digest):sub(1, 16)
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

---Cuts long names; of very many parts the first ones in the order of their names stay.
local function bounded(parts)
  local kept = {}
  for index, label in ipairs(sorted_keys(parts)) do
    if index > MOST then break end
    kept[label:sub(1, LONGEST)] = parts[label]
  end
  return kept
end

---What the ledger keeps of an image.
---@param identity kiln.image.Identity
---@param used kiln.image.Used[]
---@return { parts: table<string, string>, used: kiln.image.Used[] } kept
function changes.kept(identity, used)
  local list = {}
  for index, one in ipairs(used) do
    if index > MOST then break end
    list[index] = { entry = one.entry, digest = short(one.digest) }
  end
  return { parts = bounded(identity.parts), used = json.array(list) }
end

---The newest image of a name that the ledger knows, whether it is still there or not.
local function last_of(run, name)
  local last
  for _, row in ipairs(run.store:ledger { kind = "image" }) do
    if row.data and row.provider == run.cloud.name and row.name:match "^(.*)%-%x+$" == name then
      local image = json.decode(row.data)
      if image.kept and image.data then last = image end
    end
  end
  return last
end

local function compare_parts(old, new, say)
  for _, label in ipairs(sorted_keys(old)) do
    if new[label] == nil then
      say(3, label .. " is gone")
    elseif new[label] ~= old[label] then
      say(1, label .. " changed")
    end
  end
  for _, label in ipairs(sorted_keys(new)) do
    if old[label] == nil then say(2, label .. " is new") end
  end
end

local function compare_used(run, used, say)
  for _, one in ipairs(used) do
    local now = uses.look(run, one.entry)
    if now == "absent" and one.digest ~= short(now) then
      say(1, uses.label(one.entry) .. " is gone")
    elseif short(now) ~= one.digest then
      say(1, uses.label(one.entry) .. " changed")
    end
  end
end

---Says what changed since the newest earlier image of this name.
---@async
---@param run kiln.Run
---@param name string
---@param identity kiln.image.Identity
---@return string? why nil: no earlier one is known
function changes.since_last(run, name, identity)
  local last = last_of(run, name)
  if not last then return nil end
  local said = { {}, {}, {} }
  local function say(rank, text) table.insert(said[rank], text) end
  compare_parts(last.kept.parts, bounded(identity.parts), say)
  compare_used(run, last.kept.used, say)
  local all = {}
  for _, list in ipairs(said) do table.move(list, 1, #list, #all + 1, all) end
  if #all == 0 then
    return last.data.inputs == identity.digest and last.name .. " is not there any more"
      or "what `build` refers to changed"
  end
  local text = table.concat(all, ", ", 1, math.min(#all, SHOWN))
  return #all > SHOWN and ("%s, and %d more"):format(text, #all - SHOWN) or text
end

return changes
