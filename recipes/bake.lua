---Bakes an image once: the same inputs give the image that exists already.
---
---What an image depends on: its base, its size, the inputs that the recipe names, the text of its
---`build` function and of every function that it calls, the values that these use, and every file
---that the build uploads. `kiln.image` says how each is compared.
local hygiene = require "recipes.hygiene"
local image = require "kiln.image"
local op = require "kiln.op"
local options = require "kiln.options"

---@class kiln.BakeSpec
---@field name string lower-case; the image is called <name>-<hash>
---@field base string base image: "debian-13"
---@field size? string size of the builder
---@field inputs? table what else the image depends on: { args.version }. One with a name stands for
---  a value of that name that `build` uses and kiln cannot compare: { token = "of May" }
---@field build fun(box: kiln.Machine) installs everything on the builder
---@field within? number seconds for the builder to become ready (180)
---@field cloud_init? "done"|"degraded"|"error" the worst end of cloud-init that will do ("done")

local known = {
  name = "string", base = "string", size = "string?", inputs = "table?", build = "function",
  within = "seconds?", cloud_init = "string?",
}

local function build(run, spec, identity, base)
  local names = { run:named(spec.name) .. "-builder-" .. run.id:sub(1, 4) }
  run.cloud:preflight { names = names, machines = 1, image = base.id, size = spec.size }
  local builder = run.cloud:machines {
    names = names, image = base.id, size = spec.size,
    tags = { kiln_role = "builder" },
  }[1]
  return op.ensure(function()
    builder:ready { within = spec.within, cloud_init = spec.cloud_init }
    local used = image.build(spec.build, builder)
    hygiene.clean(builder)
    hygiene.check(builder)
    local finished = image.finish(spec.name, identity, used)
    builder:power_off()
    return run.cloud:snapshot(builder, {
      name = finished.name, data = finished.data, kept = finished.kept,
    })
  end, function() builder:destroy() end)
end

---Gives the image of these inputs; bakes it when there is none.
---@async
---@param run kiln.Run
---@param spec kiln.BakeSpec
---@return table image { id, name }
local function bake(run, spec)
  options.check("bake", spec, known)
  local base = run.cloud:base(spec.base)
  local identity = image.identity(run, spec, base, { hygiene.clean, hygiene.check })
  return run:step {
    name = "image " .. spec.name,
    perform = function()
      local found, why = image.find(run, spec.name, identity)
      if found then return found, found.name .. "  found, inputs unchanged" end
      local made = build(run, spec, identity, base)
      return made, made.name .. "  baked" .. (why and ": " .. why or "")
    end,
  }
end

return bake
