---Looks for secrets in what a run left and showed. It has its own list of encodings: kiln's own
---would miss what kiln misses.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local gzip = require "rt.gzip"
local json = require "rt.json"
local journal = require "rt.journal"

local leaks = {}

local function url_escaped(text, spared)
  return (text:gsub("[^%w%-%._~" .. (spared or "") .. "]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

---Lists the texts that give a secret away: itself, base64 at three alignments, escaped for a URL,
---for JSON, quoted for a shell, for systemd and in YAML.
---@param value string
---@return string[]
function leaks.forms(value)
  local list = { value, url_escaped(value), url_escaped(value):lower(), url_escaped(value, "/"),
    json.encode(value):sub(2, -2), (json.encode(value):sub(2, -2):gsub("/", "\\/")),
    (value:gsub("'", "'\\''")), (value:gsub("'", "''")), (value:gsub('[\\"$`]', "\\%0")) }
  for before = 0, 2 do
    local text = crypto.base64(("\0"):rep(before) .. value)
    list[#list + 1] = text:sub(before == 0 and 1 or before + 2, (before + #value) * 8 // 6)
  end
  return list
end

---Counts the places of a text where one of the secrets is.
---@param text string
---@param values string[]
---@return integer
function leaks.count(text, values)
  local count = 0
  for _, value in ipairs(values) do
    for _, form in ipairs(leaks.forms(value)) do
      local at = 1
      while true do
        local from, to = text:find(form, at, true)
        if not from then break end
        count, at = count + 1, to + 1
      end
    end
  end
  return count
end

---Lists the lines of the private keys that a project's machines have, without what all keys share.
---@param project string the folder with `.kiln`
---@return string[]
function leaks.keys(project)
  local values = {}
  for _, path in ipairs(fs.glob(project .. "/.kiln/ssh/*") or {}) do
    local number = 0
    for line in (path:find("%.pub$") and "" or assert(fs.read(path))):gmatch("[^\n]+") do
      number = number + 1
      if number > 2 and not line:find("^%-%-%-%-%-") then values[#values + 1] = line end
    end
  end
  return values
end

---Unpacks what commands printed: a store keeps it compressed. Reads a copy: to open a store that
---was left by a kill changes its files.
local function printed(path)
  local copy, parts = assert(fs.temp_dir()), {}
  for _, ending in ipairs { "", "-wal" } do
    local bytes = fs.read(path .. ending)
    if bytes then assert(fs.write(copy .. "/state.db" .. ending, bytes)) end
  end
  local db = assert(journal.open(copy .. "/state.db"))
  for _, row in ipairs(assert(db:exec "SELECT output FROM events WHERE output IS NOT NULL")) do
    parts[#parts + 1] = assert(gzip.unpack(row.output, 4 << 20))
  end
  db:close()
  assert(fs.remove(copy, { recursive = true }))
  return table.concat(parts)
end

---Joins all files below a folder but those of it that hold secrets by intent.
---@param dir string
---@param skipped? table<string, boolean> names
---@return string
function leaks.contents(dir, skipped)
  local parts = {}
  for _, name in ipairs(assert(fs.list(dir))) do
    local path = dir .. "/" .. name
    if skipped and skipped[name] then
      parts[#parts + 1] = path
    elseif fs.stat(path).type == "directory" then
      parts[#parts + 1] = leaks.contents(path)
    else
      parts[#parts + 1] = path .. fs.read(path)
      if name == "state.db" then parts[#parts + 1] = printed(path) end
    end
  end
  return table.concat(parts, "\n")
end

return leaks
