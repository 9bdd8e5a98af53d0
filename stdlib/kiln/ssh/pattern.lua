---Patterns of OpenSSH's files: `*`, `?`, and lists with `!` before what is excluded (ssh_config(5),
---PATTERNS).
local pattern = {}

---Tells whether a text matches a pattern of `*` (any text) and `?` (one byte), as a whole.
---@param text string
---@param glob string
---@return boolean
function pattern.match(text, glob)
  local at, from = 1, 1 -- in the text, in the pattern
  local star, resume -- the last `*`, and where its text ends so far
  while at <= #text do
    local want = glob:sub(from, from)
    if want == "*" then
      star, resume = from, at
      from = from + 1
    elseif want ~= "" and (want == "?" or want == text:sub(at, at)) then
      at, from = at + 1, from + 1
    elseif star then
      resume = resume + 1
      at, from = resume, star + 1
    else
      return false
    end
  end
  return glob:find("^%**$", from) ~= nil
end

---Splits a list whose patterns stand between commas.
---@param list string
---@return string[] globs
function pattern.split(list)
  local globs = {}
  for glob in list:gmatch("[^,]+") do globs[#globs + 1] = glob end
  return globs
end

---Tells whether a text matches a list: one of its patterns, and none that has `!` before it.
---@param text string
---@param globs string[]
---@return boolean
function pattern.match_list(text, globs)
  local found = false
  for _, glob in ipairs(globs) do
    if glob:sub(1, 1) == "!" then
      if pattern.match(text, glob:sub(2)) then return false end
    elseif pattern.match(text, glob) then
      found = true
    end
  end
  return found
end

return pattern
