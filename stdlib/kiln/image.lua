---The identity of images: a hash of everything that a bake depends on.
---
---Before a build: its base and size, the inputs, the text of `build` and of every function that it
---can call, the values that these use, the version of kiln. After it: what it took from this
---computer (`kiln.image.uses`). An image is used again when both are as they were.
local crypto = require "rt.crypto"
local host = require "rt.host"
local json = require "rt.json"
local error_ = require "kiln.error"
local changes = require "kiln.image.changes"
local known = require "kiln.image.known"
local op = require "kiln.op"
local uses = require "kiln.image.uses"
local walk = require "kiln.image.walk"

local image = {}

---@class kiln.image.Identity
---@field digest string of all that is known before a build
---@field parts table<string, string> digests of its parts by what people call them: "input 1"

local function check_spec(spec)
  if type(spec.build) ~= "function" then
    error_.raise { kind = "usage", message = ("bake %s: build must be a function that gets the "
      .. "builder: build = function(box) … end"):format(tostring(spec.name)) }
  end
  if spec.inputs ~= nil and type(spec.inputs) ~= "table" then
    error_.raise { kind = "usage",
      message = ("bake %s: inputs must be a table: inputs = { args.version }"):format(spec.name) }
  end
end

---Lists where a walk begins: each thing by itself, so that each can be named when it changed.
local function roots_of(spec, base, also)
  local roots = {
    { label = "kiln's version", name = "kiln", value = host.version },
    { label = "base", name = "base", value = {
      name = base.name or "", id = tostring(base.id), data = base.data } },
    { label = "size", name = "size", value = spec.size },
  }
  local names = {}
  for name in pairs(spec.inputs or {}) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    roots[#roots + 1] = { label = "input " .. tostring(name), name = tostring(name),
      value = spec.inputs[name] }
  end
  roots[#roots + 1] = { label = "build", name = "build", value = spec.build }
  for index, fn in ipairs(also) do
    roots[#roots + 1] = { label = "after build " .. index, name = "after build", value = fn }
  end
  return roots
end

---Hashes what is known before the build. Raises `usage` for a value that cannot be compared with
---that of another day, such as a secret or a coroutine, unless `inputs` has one of its name.
---@param run kiln.Run
---@param spec kiln.BakeSpec
---@param base table the base image
---@param also function[] what else runs on every builder
---@return kiln.image.Identity
function image.identity(run, spec, base, also)
  check_spec(spec)
  local digest, parts = walk.from {
    image = spec.name, run = run, environment = run.globals,
    known = known.of(run.globals), inputs = spec.inputs or {},
    roots = roots_of(spec, base, also),
  }
  return { digest = digest, parts = parts }
end

local function line_of(one)
  local entry = one.entry
  return json.encode { entry.kind, entry.name, entry.mode or false,
    json.array(entry.exclude or {}), one.digest }
end

---Lists what a build used, each once, in an order that does not depend on which of two tasks came
---first. A file that was sent twice, and changed between, is there twice: it never fits again.
local function each_once(used)
  local list, seen = {}, {}
  for _, one in ipairs(used) do
    local line = line_of(one)
    if not seen[line] then list[#list + 1] = one end
    seen[line] = true
  end
  table.sort(list, function(a, b) return line_of(a) < line_of(b) end)
  return list
end

local function digest_of(identity, used)
  local lines = {}
  for index, one in ipairs(each_once(used)) do lines[index] = line_of(one) end
  return crypto.sha256(identity.digest .. "\n" .. table.concat(lines, "\n"))
end


---Whether an image was baked with this identity, and all that its build used is as it was.
local function fits(run, identity, found)
  local data = found.data or {}
  if data.inputs ~= identity.digest or not data.uses then return false end
  local used = {}
  for index, entry in ipairs(data.uses) do
    used[index] = { entry = entry, digest = uses.look(run, entry) }
  end
  return digest_of(identity, used) == data.digest
end

---Finds an image with this identity; says why there is none, as compared with the one before.
---@async
---@param run kiln.Run
---@param name string
---@param identity kiln.image.Identity
---@return table? image
---@return string? why
function image.find(run, name, identity)
  local seen = op.call {
    name = "look up image " .. name, class = "read", quiet = true, args = { name = name },
    perform = function()
      for _, found in ipairs(run.cloud.driver:images()) do
        if fits(run, identity, found) then return { inputs = identity.digest, found = found } end
      end
      return { inputs = identity.digest, why = changes.since_last(run, name, identity) }
    end,
  }
  -- A build that is under way may be edited: what it did so far is compared step by step.
  if seen.found and seen.inputs ~= identity.digest then
    run:diverge("look up image " .. name, "the recipe's image has other inputs now")
  end
  return seen.found, seen.why
end

---Runs a build.
---@async
---@param build fun(box: kiln.Machine)
---@param builder kiln.Machine
---@return kiln.image.Used[] used
function image.build(build, builder)
  return uses.watch(function() build(builder) end)
end

---Names a finished build: its identity and what it used.
---@async
---@param name string
---@param identity kiln.image.Identity
---@param used kiln.image.Used[]
---@return { name: string, data: table, kept: table } finished `data` for the cloud to keep with it,
---  `kept` for the ledger
function image.finish(name, identity, used)
  return op.call {
    name = "digest of the inputs of " .. name, class = "read", quiet = true,
    args = { inputs = identity.digest },
    perform = function()
      local digest, list, entries = digest_of(identity, used), each_once(used), {}
      for index, one in ipairs(list) do entries[index] = one.entry end
      return {
        name = name .. "-" .. digest:sub(1, 8),
        data = { inputs = identity.digest, digest = digest, uses = json.array(entries) },
        kept = changes.kept(identity, list),
      }
    end,
  }
end

return image
