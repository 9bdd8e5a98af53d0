---Images of a cloud: bases, snapshots, what is kept of them.
local json = require "rt.json"
local timer = require "rt.timer"
local op = require "kiln.op"
local scope = require "kiln.scope"

local images = {}

---Makes sure that a base image is there; the local cloud prepares it once.
---@async
---@param self kiln.Cloud
---@param name string
---@return table image
function images.base(self, name)
  local there = op.call {
    name = "look up base " .. name, class = "read", args = { name = name }, quiet = true,
    perform = function() return self.driver:find_base(name) end,
  }
  if there then return there end
  return self.run:step {
    name = "base " .. name,
    perform = function()
      local image = op.call {
        name = "base " .. name, class = "idempotent", args = { name = name },
        perform = function()
          return self.driver:base_image(name, function(text)
            self.run:line { stream = "out", text = text, name = "base " .. name }
          end)
        end,
      }
      return image, image.detail or image.id
    end,
  }
end

---Finds an image by name.
---@async
---@param self kiln.Cloud
---@param name string
---@return table? image
function images.find_image(self, name)
  return op.call {
    name = "look up image " .. name, class = "read", args = { name = name }, quiet = true,
    perform = function() return self.driver:find_image { name = name } end,
  }
end

---Freezes a stopped machine into an image.
---@async
---@param self kiln.Cloud
---@param source kiln.Machine
---@param spec { name: string, data: table?, kept: table? } `data` for the cloud, `kept` for the
---  ledger
---@return table image
function images.snapshot(self, source, spec)
  local store, run = self.run.store, self.run
  local function note(token, image)
    local row = { kept = spec.kept }
    for key, value in pairs(image) do row[key] = value end
    store:ledger_live(token, image.id, json.encode(row))
  end
  return op.call {
    name = "snapshot " .. spec.name, class = "adopt", quiet = true, ledger = true,
    args = { name = spec.name, machine = source.id },
    perform = function(token)
      local tags = { kiln_project = run:labels().kiln_project } -- every environment's
      store:ledger_intent {
        run = run.id, key = scope.state().operation.key, provider = self.name, kind = "image",
        name = spec.name, token = token, service = run.service,
      }
      local image = self.driver:snapshot {
        machine = source.id, name = spec.name, token = token, tags = tags, data = spec.data,
      }
      note(token, image)
      return image
    end,
    settle = function(token)
      local image = self.driver:find_image { token = token }
      if image then note(token, image) end
      return image
    end,
    unmake = function(token)
      self.driver:discard_snapshot { machine = source.id, name = spec.name, token = token }
      store:ledger_gone(token)
    end,
  }
end

---Copies an image to more regions of the cloud. Raises `unsupported` where there are none.
---@async
---@param self kiln.Cloud
---@param image table
---@param regions string[]
function images.copy_image(self, image, regions)
  self:need "image_copies"
  op.call {
    name = "copy image " .. image.name, class = "idempotent",
    args = { id = image.id, regions = json.array(regions) },
    perform = function() self.driver:copy_image(image.id, regions) end,
  }
end

local function baked_as(name)
  return function(made) return made.name:match("^(.*)%-%x+$") == name end
end

local function forget(self, made)
  self.driver:destroy_image(made.id)
  self.run.store:ledger_gone(made.token)
end

local function in_use(self)
  local used = {}
  for _, row in ipairs(self.driver:machines()) do used[row.image or ""] = true end
  return used
end

---The names of the images that releases need, of every environment.
local function released(self)
  local names = {}
  for _, row in ipairs(self.run.store:releases()) do names[row.image] = true end
  return names
end

---Deletes the images that kiln baked under a name ("app" for app-3f9c21d0), but for those that a
---machine or a release of any environment needs.
---@async
---@param self kiln.Cloud
---@param name string
---@return { count: integer, used: integer } done how many were deleted, how many are needed
function images.destroy_images(self, name)
  return op.call {
    name = "delete images of " .. name, class = "idempotent", args = { name = name }, quiet = true,
    perform = function()
      local done, matches = { count = 0, used = 0 }, baked_as(name)
      local machines, releases = in_use(self), released(self)
      for _, made in ipairs(self.run.store:ledger { kind = "image", state = "live" }) do
        if made.provider == self.name and matches(made) then
          if machines[made.id] or releases[made.name] then
            done.used = done.used + 1
          else
            forget(self, made)
            done.count = done.count + 1
          end
        end
      end
      return done
    end,
  }
end

---Deletes old images that kiln baked under a name; never one that a machine was made from.
---@async
---@param self kiln.Cloud
---@param name string
---@param spec { keep: integer?, days: number? } how many of the newest stay (3), and all that are
---  younger than so many days (0)
---@return integer count
function images.retain_images(self, name, spec)
  local args = { name = name, keep = spec.keep or 3, days = spec.days or 0 }
  return op.call {
    name = "old images of " .. name, class = "idempotent", args = args, quiet = true,
    perform = function()
      local ours, matches, used = {}, baked_as(name), in_use(self)
      for _, made in ipairs(self.run.store:ledger { kind = "image", state = "live" }) do
        if matches(made) then ours[made.id] = made end
      end
      local list = {}
      for _, row in ipairs(self.driver:images()) do
        if ours[row.id] then list[#list + 1] = row end
      end
      table.sort(list, function(a, b)
        return a.created ~= b.created and a.created > b.created
          or a.created == b.created and a.id > b.id
      end)
      local count, young = 0, timer.time() - args.days * 86400
      for index, row in ipairs(list) do
        if index > args.keep and row.created < young and not used[row.id] then
          forget(self, ours[row.id])
          count = count + 1
        end
      end
      return count
    end,
  }
end

return images
