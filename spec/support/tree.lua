---Reads the repository for the specs in spec/tree, which hold it to its own rules.
local lfs = require "lfs"

local tree = {}

---Directories whose content is made, not written.
local made = { [".git"] = true, [".kiln"] = true, [".cache"] = true, build = true, bin = true }

---Lists files below a folder of the tree, sorted.
---@param folder string from the root of the tree; a missing one is empty
---@param ending? string "%.c$", a pattern the name must match
---@return string[] paths
function tree.files(folder, ending)
  local found = {}
  local function walk(at)
    if lfs.attributes(at, "mode") ~= "directory" then return end
    for name in lfs.dir(at) do
      local path = at .. "/" .. name
      local mode = lfs.symlinkattributes(path, "mode")
      if mode == "directory" and name ~= "." and name ~= ".." and not made[name] then walk(path) end
      if mode == "file" and (not ending or name:find(ending)) then found[#found + 1] = path end
    end
  end
  walk(folder)
  table.sort(found)
  return found
end

---Lists the files of several folders.
---@param folders string[]
---@param ending? string a pattern
---@return string[] paths
function tree.files_in(folders, ending)
  local all = {}
  for _, folder in ipairs(folders) do
    for _, path in ipairs(tree.files(folder, ending)) do all[#all + 1] = path end
  end
  return all
end

---Reads a file's lines.
---@param path string
---@return string[] lines
function tree.lines(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  return lines
end

---Reads a whole file; nil when there is none.
---@param path string
---@return string?
function tree.text(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

---Gives C text with the content of comments and literals blanked, line numbers kept.
---@param text string
---@return string
function tree.code(text)
  local function blank(part) return (part:gsub("[^\n]", " ")) end
  local out, at = {}, 1
  while at <= #text do
    local start = text:find("[/\"']", at)
    if not start then break end
    out[#out + 1] = text:sub(at, start - 1)
    local mark, stop = text:sub(start, start), nil
    if text:sub(start, start + 1) == "//" then
      stop = (text:find("\n", start, true) or #text + 1) - 1
    elseif text:sub(start, start + 1) == "/*" then
      stop = select(2, text:find("*/", start + 2, true)) or #text
    elseif mark ~= "/" then
      stop = start + 1
      while stop <= #text and text:sub(stop, stop) ~= mark do
        stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
      end
    end
    out[#out + 1] = stop and blank(text:sub(start, stop)) or mark
    at = (stop or start) + 1
  end
  return table.concat(out) .. text:sub(at)
end

---Calls a function with every line of C code, comments and literals blanked.
---@param path string
---@param see fun(line: string, number: integer)
function tree.each_code_line(path, see)
  local number = 0
  for line in (tree.code(assert(tree.text(path))) .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    see(line, number)
  end
end

---Fails with one line for each thing found, each with its place and what to do.
---@param found string[]
function tree.none(found)
  if #found > 0 then error("\n  " .. table.concat(found, "\n  "), 0) end
end

return tree
