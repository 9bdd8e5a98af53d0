---The identity of images: a hash of everything that a bake depends on.
local crypto = require "rt.crypto"
local fs = require "rt.fs"
local json = require "rt.json"
local error_ = require "kiln.error"
local op = require "kiln.op"

local image = {}

---Gives the lines of a function as they stand in the recipe.
local function function_text(sources, fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then return "C" end
  local name = info.source:match("([^/]+)$")
  for path, text in pairs(sources) do
    if path:match("([^/]+)$") == name then
      local lines, number = {}, 0
      for line in (text .. "\n"):gmatch("(.-)\n") do
        number = number + 1
        if number >= info.linedefined and number <= info.lastlinedefined then
          lines[#lines + 1] = line
        end
      end
      return table.concat(lines, "\n")
    end
  end
  return info.source .. ":" .. info.linedefined
end

---Gives the digest of what is known before the build: base, size, inputs, the build's own text.
---@param run kiln.Run
---@param spec kiln.BakeSpec
---@param base table the base image
---@return string digest
function image.inputs(run, spec, base)
  local list = {}
  for index, input in ipairs(spec.inputs or {}) do list[index] = tostring(input) end
  return crypto.sha256(json.encode {
    name = spec.name, base = base.name or base.id, base_data = base.data or "",
    size = spec.size or "", inputs = json.array(list),
    build = function_text(run.sources, spec.build),
  })
end

---Gives the digest of a local file, or of a folder's files with their names and modes.
local function digest_of(path)
  local stat, err = fs.stat(path)
  if not stat then
    if err.kind == "not_found" then return "absent" end
    error_.check(nil, err)
  end
  if stat.type ~= "directory" then
    return stat.mode .. ":" .. error_.check(crypto.sha256_file(path))
  end
  local parts = {}
  for _, name in ipairs(error_.check(fs.list(path))) do
    parts[#parts + 1] = name .. "=" .. digest_of(path .. "/" .. name)
  end
  return crypto.sha256(table.concat(parts, "\n"))
end

local function file_digests(run, files)
  local digests = {}
  for _, file in ipairs(files) do digests[file] = digest_of(run:path(file)) end
  return digests
end

local function name_of(name, inputs, digests)
  return name .. "-" .. crypto.sha256(inputs .. json.encode(digests)):sub(1, 8)
end

---Finds an image with these inputs whose uploaded files have not changed since.
---@async
---@param run kiln.Run
---@param name string
---@param inputs string the digest of `image.inputs`
---@return table? image
function image.find(run, name, inputs)
  local seen = op.call {
    name = "look up image " .. name, class = "read", quiet = true, args = { name = name },
    perform = function()
      for _, found in ipairs(run.cloud.driver:images()) do
        local data = found.data or {}
        if data.inputs == inputs then
          local names = {}
          for file in pairs(data.files or {}) do names[#names + 1] = file end
          if name_of(name, inputs, file_digests(run, names)) == found.name then
            return { inputs = inputs, found = found }
          end
        end
      end
      return { inputs = inputs }
    end,
  }
  -- A build that is under way may be edited: what it did so far is compared step by step.
  if seen.found and seen.inputs ~= inputs then
    run:diverge("look up image " .. name, "the recipe's image has other inputs now")
  end
  return seen.found
end

---Names a finished build: its inputs and the files that it uploaded.
---@async
---@param run kiln.Run
---@param name string
---@param inputs string
---@param files string[] uploaded by the build, as the recipe named them
---@return { name: string, data: table }
function image.finish(run, name, inputs, files)
  return op.call {
    name = "digest of the inputs of " .. name, class = "read", quiet = true,
    args = { inputs = inputs },
    perform = function()
      local digests = file_digests(run, files)
      return {
        name = name_of(name, inputs, digests), data = { inputs = inputs, files = digests },
      }
    end,
  }
end

return image
