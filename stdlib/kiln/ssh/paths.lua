---Where files go over ssh, as cp and scp have it: a target that ends in `/` is a folder that takes
---the source under its own name, `~/` is the home folder of who logged in, a file keeps its mode.
local error_ = require "kiln.error"

local paths = {}

local function invalid(text, ...)
  error_.raise { kind = "invalid", message = text:format(...) }
end

---The source's own name.
local function name_of(source)
  local name = source:gsub("/+$", ""):match("[^/]+$")
  if not name or name == "." or name == ".." or name == "~" then
    invalid("'%s' has no name of its own; write the target without the / at its end", source)
  end
  return name
end

---Completes a target that ends in `/`.
---@param target string
---@param source string
---@return string target
function paths.target(target, source)
  return target:sub(-1) == "/" and target .. name_of(source) or target
end

---Checks a path on the machine: of what `~` can stand for, only the own home folder is known there.
---@param path string
---@return string path
function paths.remote(path)
  if path == "~" or path:find("^~[^/]") then
    invalid("'%s': on a machine only ~/… is known; write the path out, or ./%s for that very name",
      path, path)
  end
  return path
end

---The mode that a file gets when none is given: its own, without the right of others to write it.
---@param stat rt.fs.Stat of the source
---@return string mode "0755"
function paths.mode(stat)
  return ("%04o"):format(tonumber(stat.mode, 8) & 493) -- 0755
end

return paths
