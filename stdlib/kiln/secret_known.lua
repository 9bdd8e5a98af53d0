---The secrets that this process knows, and where they show in texts.
local crypto = require "rt.crypto"
local forms = require "kiln.secret_forms"

local secret_known = {}

local MASK = "<secret>"

---@class kiln.secret.Known a value, and every text that gives it away
---@field value string
---@field source? string where it comes from first, and again in a resumed run: "env NAME"
---@field sources table<string, boolean> every place that it came from
---@field forms table<string, string> form's name -> text
---@type table<string, kiln.secret.Known>
local known = {} -- by the value's digest
local needles = {} -- what must not be seen
local by_start = {} -- the first bytes of needles -> those needles
local start_length = 4 -- of what `by_start` is by; no shorter needle is taken
local none = {}
local few = 24 -- needles that are looked for one by one: each is a fast search in C
local found_as = {} -- text -> { entry, form }

---Makes a secret known to `redact` and `seal`, in every form.
---@param value userdata|string the secret
---@param source? string "env NAME", "file PATH", "command [argv as JSON]" or "key NAME"
---@return userdata secret
function secret_known.remember(value, source)
  local text = type(value) == "string" and value or crypto.reveal(value)
  local digest = crypto.sha256(text)
  local entry = known[digest]
  if not entry then
    entry = { value = text, forms = forms.of(text), sources = {} }
    known[digest] = entry
    for _, name in ipairs(forms.names(entry.forms)) do
      local form = entry.forms[name]
      if not found_as[form] and #form >= start_length then
        found_as[form] = { entry, name }
        needles[#needles + 1] = form
        local start = form:sub(1, start_length)
        by_start[start] = by_start[start] or {}
        table.insert(by_start[start], form)
      end
    end
  end
  entry.source = entry.source or source
  if source then entry.sources[source] = true end
  return type(value) == "string" and crypto.secret(value) or value
end

---Tells whether any secret is known.
---@return boolean
function secret_known.any()
  return #needles > 0
end

---Looks for each needle.
local function one_by_one(text, found)
  for _, needle in ipairs(needles) do
    local at = 1
    while true do
      local from, to = text:find(needle, at, true)
      if not from then break end
      found[#found + 1] = { from, to, needle }
      at = from + 1
    end
  end
end

---Looks at each place once, however many needles there are: a run with a thousand machines knows
---all their keys.
local function by_place(text, found)
  for from = 1, #text - start_length + 1 do
    for _, needle in ipairs(by_start[text:sub(from, from + start_length - 1)] or none) do
      local to = from + #needle - 1
      if text:sub(from, to) == needle then found[#found + 1] = { from, to, needle } end
    end
  end
end

---Finds all places of a text where something secret is.
---@param text string
---@return { [1]: integer, [2]: integer, [3]: string }[] places from, to and the form's text; sorted
function secret_known.places(text)
  local found = {}
  if #needles <= few then one_by_one(text, found) else by_place(text, found) end
  table.sort(found, function(a, b)
    return a[1] < b[1] or a[1] == b[1] and a[2] > b[2]
  end)
  return found
end

---Replaces every known secret in a text by `<secret>`: as it is, in base64 (at any place in other
---bytes), escaped for a URL or for JSON. Values shorter than 4 bytes stay.
---@param text string
---@return string
function secret_known.redact(text)
  local found = secret_known.places(text)
  if #found == 0 then return text end
  local out, done, index = {}, 0, 1
  while index <= #found do
    local from, to = found[index][1], found[index][2]
    index = index + 1
    while found[index] and found[index][1] <= to + 1 do
      to = math.max(to, found[index][2])
      index = index + 1
    end
    out[#out + 1] = text:sub(done + 1, from - 1)
    out[#out + 1] = MASK
    done = to
  end
  out[#out + 1] = text:sub(done + 1)
  return table.concat(out)
end

---Names the secret and the form that a text found by `places` stands for.
---@param form string
---@return kiln.secret.Known secret
---@return string name
function secret_known.of_form(form)
  return found_as[form][1], found_as[form][2]
end

---Lists the secrets that show in a text.
---@param text string
---@return table<kiln.secret.Known, boolean>
function secret_known.shown_in(text)
  local entries = {}
  for _, place in ipairs(secret_known.places(text)) do entries[found_as[place[3]][1]] = true end
  return entries
end

---Finds a secret by its value.
---@param text string
---@return kiln.secret.Known?
function secret_known.of_value(text)
  return known[crypto.sha256(text)]
end

local function digest_of(entry)
  return "value " .. crypto.sha256("kiln.secret\0" .. entry.value)
end

---Names where a secret comes from; one without a source is named by its digest.
---@param entry kiln.secret.Known
---@return string
function secret_known.source(entry)
  return entry.source or digest_of(entry)
end

---Finds a secret by what `source` named it, in this process or in one before.
---@param source string
---@return kiln.secret.Known?
function secret_known.of_source(source)
  local by_digest = source:find("^value ") ~= nil
  for _, entry in pairs(known) do
    if entry.sources[source] or by_digest and digest_of(entry) == source then return entry end
  end
end

return secret_known
