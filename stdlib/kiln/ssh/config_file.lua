---Reads the lines of an ssh_config file: keywords, their arguments, the blocks of Host and Match,
---and what Include brings in. Refuses what `ssh` refuses, with file and line.
local fs = require "rt.fs"
local proc = require "rt.proc"
local config_jump = require "kiln.ssh.config_jump"
local config_match = require "kiln.ssh.config_match"
local config_words = require "kiln.ssh.config_words"
local error_ = require "kiln.error"
local keywords = require "kiln.ssh.config_keywords"
local pattern = require "kiln.ssh.pattern"

local config_file = {}

---Includes that include each other end here, as in OpenSSH (READCONF_MAX_DEPTH).
local deepest = 16

---What is known of a host while its files are read.
---@class kiln.ssh.ConfigState
---@field asked string the name that was asked for
---@field host string what `Host` is compared with; in a second pass, what HostName gave
---@field home string for `~`
---@field found table<string, any> values by keyword; the first one stays
---@field final boolean the second pass
---@field wants_final boolean a `Match final` was seen: there is to be a second pass
---@field set fun(keyword: string, words: string[], rest: string, place: string) a line that counts

local function invalid(place, text, ...)
  error_.raise { kind = "invalid", message = place .. ": " .. text:format(...) }
end

local flags = { yes = true, ["true"] = true, no = true, ["false"] = true }

local function check_value(keyword, value, rest, place)
  local choices = keywords.choices[keyword]
  if choices and not (" " .. choices .. " "):find(" " .. value:lower() .. " ", 1, true) then
    invalid(place, "'%s' is none of: %s", value, choices)
  elseif keyword == "port" and (tonumber(value) < 1 or tonumber(value) > 65535) then
    invalid(place, "'%s' is no port", value)
  elseif keyword == "proxyjump" then
    config_jump.list(rest, place)
  end
end

---Refuses a line that `ssh` would end at, also in a block that does not count.
local function check(state, keyword, words, rest, place)
  local kind = keywords.arguments[keyword]
  if not kind then
    local ignored = state.found.ignoreunknown
    if ignored and pattern.match_list(keyword, pattern.split(ignored:lower())) then return false end
    invalid(place, "'%s' is no keyword of ssh_config, so ssh refuses the file; see IgnoreUnknown",
      keyword:gsub("[^%g ]", "?"))
  end
  if not words then invalid(place, "a quote is not closed") end
  if kind == "none" then return false end
  if words[1] == nil or (words[1] == "" and kind ~= "line") then
    invalid(place, "'%s' needs a value", keyword)
  elseif #words > 1 and (kind == "flag" or kind == "number" or kind == "word") then
    invalid(place, "'%s' takes one value, and more follows it ('%s')", keyword, words[2])
  elseif kind == "flag" and not flags[words[1]:lower()] then
    invalid(place, "'%s' is neither yes nor no", words[1])
  elseif kind == "number" and not words[1]:find("^%d+$") then
    invalid(place, keyword == "port" and "'%s' is no port" or "'%s' is no number", words[1])
  end
  check_value(keyword, words[1], rest, place)
  return true
end

local read_file -- for Include

local function include(state, file, words, active)
  if file.depth >= deepest then
    invalid(file.path, "Include goes too deep; do the files include each other?")
  end
  for _, word in ipairs(words) do
    local path = word:gsub("^~/", state.home .. "/")
    if path:sub(1, 1) ~= "/" then path = file.folder .. "/" .. path end
    for _, found in ipairs(error_.check(fs.glob(path))) do
      read_file(state, {
        path = found, folder = file.folder, depth = file.depth + 1, never = not active,
        owned = true,
      }, active)
    end
  end
end

---`ssh` takes a user's file only if nobody else can write it.
local function check_owner(path)
  local stat = fs.stat(path)
  if not stat then return end
  local mode = tonumber(stat.mode, 8) or 0
  if (stat.uid ~= 0 and stat.uid ~= proc.info().uid) or mode & 18 ~= 0 then -- 18: go+w
    invalid(path, "others may write this file, so ssh refuses it; chmod go-w, and make it your own")
  end
end

---@param file { path: string, folder: string, depth: integer, never: boolean?, owned: boolean? }
---@param active boolean whether its first lines count
function read_file(state, file, active)
  local text, err = fs.read(file.path, { max = 1 << 20 })
  if not text then
    if error_.is(err, "not_found") then return end
    error(error_.from(err), 0)
  end
  if file.owned then check_owner(file.path) end
  local number = 0
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    number = number + 1
    local keyword, rest = config_words.keyword(line)
    if keyword then
      local place = ("%s:%d"):format(file.path, number)
      local words = config_words.split(rest)
      if not check(state, keyword, words, rest, place) then
        goto continue
      elseif keyword == "host" then
        active = not file.never and pattern.match_list(state.host, words)
      elseif keyword == "match" then
        active = config_match.counts(state, rest, place) and not file.never
      elseif keyword == "include" then
        include(state, file, words, active)
      elseif active then
        state.set(keywords.aliases[keyword] or keyword, words, rest, place)
      end
    end
    ::continue::
  end
end

---Reads a file; one that is absent is empty. Raises `invalid` and `unsupported` with file and line,
---`denied`, `io`.
---@param state kiln.ssh.ConfigState
---@param path string
---@param folder string where relative names of Include lie
---@param owned? boolean a user's own file, which nobody else may write
function config_file.read(state, path, folder, owned)
  read_file(state, { path = path, folder = folder, depth = 0, owned = owned }, true)
end

return config_file
