---Splits the lines of ssh_config as OpenSSH does (readconf.c, misc.c: strdelim, argv_split), and
---expands what stands for something else in them.
local error_ = require "kiln.error"

local config_words = {}

---Splits off the first word of a text: at blanks, at one `=`, and around quotes.
---@param text? string
---@return string? word nil at the end, or when a quote is not closed
---@return string? rest
function config_words.delimited(text)
  if not text then return nil end
  local at = text:find('[ \t\r\n"=]')
  if not at then return text, nil end
  local before, char = text:sub(1, at - 1), text:sub(at, at)
  if char == '"' then
    local close = text:find('"', at + 1, true)
    if not close then return nil end
    return before .. text:sub(at + 1, close - 1), (text:sub(close + 1):gsub("^[ \t\r\n]+", ""))
  end
  local rest = text:sub(at + 1):gsub("^[ \t\r\n]+", "")
  if char ~= "=" then rest = rest:gsub("^=[ \t\r\n]*", "") end
  return before, rest
end

---Splits a line into its keyword, in lower case, and the rest.
---@param line string
---@return string? keyword nil for a line that says nothing
---@return string rest
function config_words.keyword(line)
  line = line:sub(1, 1) .. line:sub(2):gsub("[ \t\r\n\f]+$", "")
  local keyword, rest = config_words.delimited(line)
  if keyword == "" then keyword, rest = config_words.delimited(rest) end
  if not keyword or keyword:find("^%s*$") or keyword:sub(1, 1) == "#" then return nil, "" end
  return keyword:lower(), rest or ""
end

---Splits arguments: quotes, backslashes, a comment at the end.
---@param text string
---@return string[]? words nil when a quote is not closed
function config_words.split(text)
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

---Expands the tokens of a text, "%h" and the like. Raises `invalid` for one that is not there.
---@param text string
---@param tokens table<string, string> by their letter
---@param what string keyword, for the error
---@return string
function config_words.expand(text, tokens, what)
  return (text:gsub("%%(.?)", function(letter)
    if letter == "%" then return "%" end
    return tokens[letter] or error_.raise { kind = "invalid",
      message = ("%s: '%s' has the token %%%s, which kiln does not expand there"):format(what, text,
        letter) }
  end))
end

---The host's name that HostName gives for the one that was asked for.
---@param value string
---@param asked string
---@return string
function config_words.host_name(value, asked)
  return config_words.expand(value, { h = asked }, "HostName")
end

return config_words
