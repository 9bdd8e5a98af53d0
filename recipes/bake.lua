---Bakes an image once: the same inputs give the image that exists already.
---
---What an image depends on: its base, its size, the inputs that the recipe names, the text of its
---`build` function, and the content of every file that the build uploads. Files are known only when
---a build has run, so they are kept with the image and compared before it is taken again.
local hygiene = require "recipes.hygiene"
local image = require "kiln.image"
local op = require "kiln.op"

---@class kiln.BakeSpec
---@field name string lower-case; the image is called <name>-<hash>
---@field base string base image: "debian-13"
---@field size? string size of the builder
---@field inputs? (string|number)[] what else the image depends on
---@field build fun(box: kiln.Machine) installs everything on the builder
---@field within? number seconds for the builder to become ready (180)
---@field cloud_init? "done"|"degraded"|"error" the worst end of cloud-init that will do ("done")

local function build(run, spec, inputs, base)
  local names = { run:named(spec.name) .. "-builder-" .. run.id:sub(1, 4) }
  run.cloud:preflight { names = names, machines = 1, image = base.id, size = spec.size }
  local builder = run.cloud:machines {
    names = names, image = base.id, size = spec.size,
    tags = { kiln_role = "builder" },
  }[1]
  return op.ensure(function()
    builder:ready { within = spec.within, cloud_init = spec.cloud_init }
    builder.used = {}
    spec.build(builder)
    hygiene.clean(builder)
    hygiene.check(builder)
    local finished = image.finish(run, spec.name, inputs, builder.used)
    builder:power_off()
    return run.cloud:snapshot(builder, { name = finished.name, data = finished.data })
  end, function() builder:destroy() end)
end

---Gives the image of these inputs; bakes it when there is none.
---@async
---@param run kiln.Run
---@param spec kiln.BakeSpec
---@return table image { id, name }
local function bake(run, spec)
  local base = run.cloud:base(spec.base)
  local inputs = image.inputs(run, spec, base)
  return run:step {
    name = "image " .. spec.name,
    perform = function()
      local found = image.find(run, spec.name, inputs)
      if found then return found, found.name .. "  found, inputs unchanged" end
      local made = build(run, spec, inputs, base)
      return made, made.name .. "  baked"
    end,
  }
end

return bake
