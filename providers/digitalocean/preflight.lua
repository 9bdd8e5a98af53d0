---Everything that can be known to be wrong before anything is made, as one list.
local error_ = require "kiln.error"
local scope = require "kiln.scope"

local preflight = {}

---https://docs.digitalocean.com/reference/api/ (droplets_create): what a droplet may be called.
local function good_name(name)
  return #name <= 255 and name:find("^[%w][%w%.%-]*$") and name:find("%w$")
end

local function row(name, ok, message, remedy)
  return { name = name, ok = ok, message = message, remedy = not ok and remedy or nil }
end

local function machine_limit(account, in_use, wanted)
  local limit = account.droplet_limit or math.huge
  local text = ("%d of %s droplets are in use, %d more wanted"):format(in_use, limit, wanted)
  return row("droplet limit", in_use + wanted <= limit, text,
    "destroy some (`kiln gc`), or ask DigitalOcean for a higher limit")
end

local function find(list, slug)
  for _, one in ipairs(list) do
    if one.slug == slug then return one end
  end
end

local function check_region(self, regions)
  local region = find(regions, self.options.region)
  if region and region.available ~= false then
    return row("region", true, self.options.region)
  end
  local slugs = {}
  for _, one in ipairs(regions) do
    if one.available ~= false then slugs[#slugs + 1] = one.slug end
  end
  table.sort(slugs)
  return row("region", false, ("region '%s' %s"):format(self.options.region,
    region and "takes no new machines now" or "is none of DigitalOcean's"),
    "set DIGITALOCEAN_REGION to one of: " .. table.concat(slugs, ", "))
end

---Where there is no such region, nothing more is said about what is not in it: `placed` is false.
local function check_size(self, sizes, slug, placed)
  local size = find(sizes, slug)
  if not size then
    return row("size", false, ("there is no size '%s'"):format(slug),
      "`doctl compute size list` lists them")
  end
  if not placed then return row("size", true, slug) end
  for _, region in ipairs(size.regions or {}) do
    if region == self.options.region then return row("size", true, slug) end
  end
  return row("size", false, ("size %s is not to be had in %s"):format(slug, self.options.region),
    "choose another size or region")
end

local function check_image(self, answer, id, placed)
  if not answer then
    return row("image", false, ("there is no image %s"):format(id),
      "`doctl compute image list` lists them")
  end
  if not placed then return row("image", true, id) end
  for _, region in ipairs(answer.image.regions or {}) do
    if region == self.options.region then return row("image", true, id) end
  end
  return row("image", false, ("image %s (%s) is not in %s"):format(id, answer.image.name,
    self.options.region), "copy it there: `doctl compute image-action transfer`")
end

local function check_names(rows, names)
  for _, name in ipairs(names) do
    if not good_name(name) then
      rows[#rows + 1] = row("name", false, ("'%s' cannot be a droplet's name"):format(name),
        "use letters, digits, dots and hyphens, with a letter or a digit at both ends")
    end
  end
end

---Looks at everything at once.
---@async
---@param self kiln.digitalocean.Driver
---@param spec { machines: integer?, names: string[]?, image: string?, size: string?,
---  user_data: integer? } how many machines are wanted; bytes of user-data
---@return { name: string, ok: boolean, message: string, remedy: string? }[]
function preflight.check(self, spec)
  local account = self.api:call("GET", "/v2/account").account -- raises `auth`
  local rows = { row("account", account.status ~= "locked", ("%s, %s"):format(account.email or "?",
    account.status or "?"), "see https://cloud.digitalocean.com: the account is locked") }
  local parts = scope.all {
    function() return self.api:call("GET", "/v2/droplets?per_page=1").meta.total end,
    function() return self.api:list("/v2/regions", "regions") end,
    function() return self.api:list("/v2/sizes", "sizes") end,
    function() return spec.image and self.api:find("/v2/images/" .. spec.image) or false end,
  }
  rows[#rows + 1] = machine_limit(account, parts[1], spec.machines or #(spec.names or {}))
  rows[#rows + 1] = check_region(self, parts[2])
  local placed = rows[#rows].ok
  rows[#rows + 1] = check_size(self, parts[3], spec.size or self.options.size, placed)
  if spec.image then rows[#rows + 1] = check_image(self, parts[4], spec.image, placed) end
  check_names(rows, spec.names or {})
  local most = self.limits.user_data
  if (spec.user_data or 0) > most then
    rows[#rows + 1] = row("user-data", false, ("the user-data has %d bytes, %d are the most")
      :format(spec.user_data, most), "put what is large into the image")
  end
  return rows
end

---Raises `invalid` with every problem that is found.
---@async
---@param self kiln.digitalocean.Driver
---@param spec table as in `check`
function preflight.require(self, spec)
  local problems = {}
  for _, one in ipairs(preflight.check(self, spec)) do
    if not one.ok then
      problems[#problems + 1] = ("%s (%s)"):format(one.message, one.remedy)
    end
  end
  if #problems == 0 then return end
  error_.raise { kind = "invalid", problems = problems, message = ("nothing was made, because %s")
    :format(table.concat(problems, "; ")) }
end

return preflight
