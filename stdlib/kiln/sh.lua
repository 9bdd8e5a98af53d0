---Shell text made of words that the shell must not read twice: quoting for POSIX sh.
local error_ = require "kiln.error"
local secret = require "kiln.secret"

local sh = {}

---Characters that no shell gives a meaning to, anywhere in a word (POSIX.1-2017, XCU 2.2).
local plain = "^[%w_@%%+:,./%-]+$"

---Quotes one word: the shell sees exactly these bytes as one argument.
---Raises `invalid` for a word with a NUL byte, which no argument can carry.
---@param word string|number|userdata
---@return string|userdata text a secret for a secret
function sh.quote(word)
  if secret.is(word) then return secret.encode(word, sh.quote) end
  if type(word) == "number" then word = tostring(word) end
  if type(word) ~= "string" then
    error_.raise { kind = "invalid", message = "a shell word is text, not a " .. type(word) }
  end
  if word:find("\0", 1, true) then
    error_.raise { kind = "invalid", message = "a shell word cannot carry a NUL byte" }
  end
  if word:find(plain) then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

---Joins arguments to a command line, each quoted.
---Raises `invalid` as `sh.quote` does.
---@param argv (string|number|userdata)[] the program and its arguments
---@return string|userdata text a secret when one of them is
function sh.join(argv)
  if secret.within(argv) then return secret.encode(argv, sh.join) end
  local words = {}
  for index, word in ipairs(argv) do
    words[index] = sh.quote(word)
    -- As the first word, `a=b` would be an assignment and not a program.
    if index == 1 and words[1] == word and word:find("=", 1, true) then
      words[1] = "'" .. word .. "'"
    end
  end
  return table.concat(words, " ")
end

---Writes variables as assignments to put before a command ("A=1 B='two words'"), in the order of
---their names. Raises `invalid` for what is no variable's name.
---@param variables table<string, string|number|userdata>
---@return string|userdata text a secret when one of them is
function sh.env(variables)
  if secret.within(variables) then return secret.encode(variables, sh.env) end
  local names = {}
  for name in pairs(variables) do names[#names + 1] = name end
  table.sort(names)
  local words = {}
  for index, name in ipairs(names) do
    if not name:find("^[%a_][%w_]*$") then
      error_.raise { kind = "invalid",
        message = ("'%s' is no name of an environment variable"):format(name) }
    end
    words[index] = name .. "=" .. sh.quote(variables[name])
  end
  return table.concat(words, " ")
end

return sh
