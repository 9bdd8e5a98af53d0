---Decides whether a `Match` block of ssh_config counts (ssh_config(5), Match).
local proc = require "rt.proc"
local config_words = require "kiln.ssh.config_words"
local error_ = require "kiln.error"
local pattern = require "kiln.ssh.pattern"

local config_match = {}

local function refuse(kind, place, text, ...)
  error_.raise { kind = kind, message = place .. ": " .. text:format(...) }
end

---The host's name at this point of the files: HostName if it is set already.
local function host_now(state)
  local name = state.found.hostname
  return name and config_words.host_name(name, state.asked) or state.host
end

local function is_listed(text, list) return pattern.match_list(text, pattern.split(list)) end

local function is_host(name, list) return is_listed(name:lower(), list:lower()) end

---@type table<string, fun(state: kiln.ssh.ConfigState, argument: string): boolean>
local with_argument = {
  host = function(state, list) return is_host(host_now(state), list) end,
  originalhost = function(state, list) return is_host(state.asked, list) end,
  user = function(state, list) return is_listed(state.found.user or proc.info().user, list) end,
  localuser = function(_, list) return is_listed(proc.info().user, list) end,
  tagged = function(state, list) return is_listed(state.found.tag or "", list) end,
}

---Conditions that kiln does not judge. They matter only where those before them hold.
local not_judged = {
  exec = "runs a program", localnetwork = "asks for the networks of this host",
  sessiontype = "asks what the session is for", command = "asks what the session is for",
  version = "asks for the version of ssh",
}

local function argument_of(attribute, rest, place)
  local argument
  argument, rest = config_words.delimited(rest)
  if not argument or argument == "" or argument:sub(1, 1) == "#" then
    refuse("invalid", place, "Match %s needs an argument", attribute)
  end
  return argument, rest
end

---Judges one condition that has an argument.
local function holds(state, name, argument, so_far, place)
  if with_argument[name] then return with_argument[name](state, argument) end
  if not not_judged[name] then
    refuse("invalid", place, "'%s' is no condition of Match", name)
  elseif so_far then
    refuse("unsupported", place, "Match %s %s, which kiln does not do; put what this host needs "
      .. "into a Host block before it, or give another file as 'config'", name, not_judged[name])
  end
  return false
end

---Tells whether the block that begins with a `Match` line counts.
---Raises `invalid` for what `ssh` refuses, `unsupported` for a condition that kiln does not judge.
---@param state kiln.ssh.ConfigState
---@param rest string what follows the keyword
---@param place string "file:line"
---@return boolean
function config_match.counts(state, rest, place)
  local result, count = true, 0
  local attribute, left = config_words.delimited(rest)
  while attribute and attribute ~= "" and attribute:sub(1, 1) ~= "#" do
    local negated, name = attribute:match("^(!?)(.*)$")
    name = name:lower()
    local held
    if name == "all" then
      local after = config_words.delimited(left)
      if count > 0 or (after and after ~= "" and after:sub(1, 1) ~= "#") then
        refuse("invalid", place, "'all' stands alone, or after canonical or final")
      end
      return result and negated == ""
    elseif name == "canonical" or name == "final" then
      if name == "final" then state.wants_final = true end
      held = state.final
      if negated == "" then count = count - 1 end -- `all` may follow
    else
      local argument
      argument, left = argument_of(name, left, place)
      held = holds(state, name, argument, result, place)
    end
    if held == (negated == "!") then result = false end
    count = count + 1
    attribute, left = config_words.delimited(left)
  end
  return result
end

return config_match
