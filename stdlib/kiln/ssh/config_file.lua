---Reads the lines of an ssh_config file: keywords, their arguments, and what Include brings in.
local fs = require "rt.fs"
local error_ = require "kiln.error"
local pattern = require "kiln.ssh.pattern"

local config_file = {}

---Includes that include each other end here, as in OpenSSH (READCONF_MAX_DEPTH).
local deepest = 16

---@class kiln.ssh.ConfigReader
---@field host string what `Host` is compared with
---@field home string for `~`
---@field set fun(keyword: string, words: string[], rest: string, place: string) a line that counts
---@field note fun(text: string) something that was left out

local function invalid(place, text)
  error_.raise { kind = "invalid", message = ("%s: %s"):format(place, text) }
end

---Splits arguments: quotes, backslashes, a comment at the end (OpenSSH 9.2, misc.c, argv_split).
---@param text string
---@return string[]? words nil when a quote is not closed
function config_file.words(text)
  local words, at = {}, 1
  while true do
    at = text:find("[^ \t]", at)
    if not at or text:sub(at, at) == "#" then return words end
    local word, quote = {}, nil
    while at <= #text do
      local char, next_char = text:sub(at, at), text:sub(at + 1, at + 1)
      if char == "\\" and (next_char:find("^['\"\\]") or (next_char == " " and not quote)) then
        word[#word + 1] = next_char
        at = at + 1
      elseif not quote and (char == " " or char == "\t") then
        break
      elseif not quote and (char == '"' or char == "'") then
        quote = char
      elseif char == quote then
        quote = nil
      else
        word[#word + 1] = char
      end
      at = at + 1
    end
    if quote then return nil end
    words[#words + 1] = table.concat(word)
  end
end

---Splits a line into its keyword in lower case and the rest; one `=` may stand between them.
local function split(line)
  local keyword, rest = line:match('^[ \t]*"?([^%s="]+)"?(.*)$')
  if not keyword or keyword:sub(1, 1) == "#" then return nil end
  rest = rest:gsub("^[ \t]*=?[ \t]*", "", 1):gsub("%s+$", "")
  return keyword:lower(), rest
end

local read_file -- for Include

local function include(reader, file, words, active)
  if file.depth >= deepest then
    invalid(file.path, "Include goes too deep; do the files include each other?")
  end
  for _, word in ipairs(words) do
    local path = word:gsub("^~/", reader.home .. "/")
    if path:sub(1, 1) ~= "/" then path = file.folder .. "/" .. path end
    for _, found in ipairs(error_.check(fs.glob(path))) do
      read_file(reader, {
        path = found, folder = file.folder, depth = file.depth + 1, never = not active,
      }, active)
    end
  end
end

---`Match all` counts; other conditions would run programs or need a second pass.
local function match(reader, words, place)
  if #words == 1 and words[1]:lower() == "all" then return true end
  reader.note(("%s: 'Match %s' was skipped: kiln honours Host and 'Match all'")
    :format(place, table.concat(words, " ")))
  return false
end

---@param file { path: string, folder: string, depth: integer, never: boolean? }
---@param active boolean whether its first lines count
function read_file(reader, file, active)
  local text, err = fs.read(file.path, { max = 1 << 20 })
  if not text then
    if error_.is(err, "not_found") or file.depth > 0 then return end -- OpenSSH skips those too
    error(error_.from(err), 0)
  end
  local number = 0
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    local keyword, rest = split(line)
    if keyword then
      local place = ("%s:%d"):format(file.path, number)
      local words = config_file.words(rest)
      if not words then invalid(place, "a quote is not closed") end
      if #words == 0 then invalid(place, ("'%s' needs a value"):format(keyword)) end
      if keyword == "host" then
        active = not file.never and pattern.match_list(reader.host, words)
      elseif keyword == "match" then
        active = match(reader, words, place) and not file.never
      elseif keyword == "include" then
        include(reader, file, words, active)
      elseif active then
        reader.set(keyword, words, rest, place)
      end
    end
  end
end

---Reads a file; one that is absent is empty. Raises `invalid` with file and line, `denied`, `io`.
---@param reader kiln.ssh.ConfigReader
---@param path string
---@param folder string where relative names of Include lie
function config_file.read(reader, path, folder)
  read_file(reader, { path = path, folder = folder, depth = 0 }, true)
end

return config_file
