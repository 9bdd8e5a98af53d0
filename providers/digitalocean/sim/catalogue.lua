---Regions, sizes and base images of the simulated cloud: a small selection of the real ones.
---
---Names and numbers: https://slugs.do-api.dev and the examples of the OpenAPI description.
local json = require "kiln.json"

local catalogue = {}

local region_names = {
  { "nyc1", "New York 1" }, { "nyc3", "New York 3" }, { "sfo3", "San Francisco 3" },
  { "ams3", "Amsterdam 3" }, { "fra1", "Frankfurt 1" }, { "lon1", "London 1" },
  { "sgp1", "Singapore 1" }, { "tor1", "Toronto 1" }, { "blr1", "Bangalore 1" },
  { "nyc2", "New York 2", closed = true }, -- for refusals: a region that takes no new droplets
}

-- slug, memory MB, vcpus, disk GB, transfer TB, dollars a month
local size_rows = {
  { "s-1vcpu-512mb-10gb", 512, 1, 10, 0.5, 4.0 }, { "s-1vcpu-1gb", 1024, 1, 25, 1.0, 6.0 },
  { "s-1vcpu-2gb", 2048, 1, 50, 2.0, 12.0 }, { "s-2vcpu-2gb", 2048, 2, 60, 3.0, 18.0 },
  { "s-2vcpu-4gb", 4096, 2, 80, 4.0, 24.0 }, { "s-4vcpu-8gb", 8192, 4, 160, 5.0, 48.0 },
  { "c-2", 4096, 2, 25, 4.0, 42.0, only = { "nyc3", "fra1", "ams3" } },
}

-- slug, name, distribution
local image_rows = {
  { "debian-12-x64", "12 x64", "Debian", 69440000 },
  { "debian-13-x64", "13 x64", "Debian", 69440013 },
  { "ubuntu-22-04-x64", "22.04 (LTS) x64", "Ubuntu", 69440022 },
  { "ubuntu-24-04-x64", "24.04 (LTS) x64", "Ubuntu", 69440024 },
  { "centos-7-x64", "7 x64", "CentOS", 69440007 },
}

local features = {
  "private_networking", "backups", "ipv6", "metadata", "install_agent", "storage",
  "image_transfer",
}

local function copy_list(list)
  return json.array(table.move(list, 1, #list, 1, {}))
end

local function open_regions()
  local slugs = {}
  for _, row in ipairs(region_names) do
    if not row.closed then slugs[#slugs + 1] = row[1] end
  end
  return slugs
end

local function size_regions(row)
  return copy_list(row.only or open_regions())
end

---Gives the sizes as the API shows them.
---@return table[]
function catalogue.sizes()
  local sizes = {}
  for index, row in ipairs(size_rows) do
    sizes[index] = {
      slug = row[1], memory = row[2], vcpus = row[3], disk = row[4], transfer = row[5],
      price_monthly = row[6], price_hourly = row[6] / 672, regions = size_regions(row),
      available = true, description = row[1]:find("^s%-") and "Basic" or "CPU-Optimized",
      disk_info = json.array {
        { type = "local", size = { amount = row[4], unit = "gib" } },
      },
    }
  end
  return sizes
end

---Gives the regions as the API shows them.
---@return table[]
function catalogue.regions()
  local regions = {}
  for index, row in ipairs(region_names) do
    local sizes = json.array {}
    for _, size in ipairs(row.closed and {} or size_rows) do
      local there = not size.only
      for _, slug in ipairs(size.only or {}) do there = there or slug == row[1] end
      if there then sizes[#sizes + 1] = size[1] end
    end
    regions[index] = {
      slug = row[1], name = row[2], features = copy_list(features),
      available = not row.closed, sizes = sizes,
    }
  end
  return regions
end

---Gives a row of a list by its slug.
---@param rows table[]
---@param slug any
---@return table?
function catalogue.by_slug(rows, slug)
  for _, row in ipairs(rows) do
    if row.slug == slug then return row end
  end
end

---Gives the base images, to be put among the account's images.
---@return table[]
function catalogue.images()
  local images = {}
  for index, row in ipairs(image_rows) do
    images[index] = {
      id = row[4], slug = row[1], name = row[2], distribution = row[3], type = "base",
      public = true, regions = copy_list(open_regions()), min_disk_size = 7,
      size_gigabytes = 0.66, created_at = "2026-05-15T05:47:50Z", description = row[3] .. " "
        .. row[2], tags = json.array {}, status = "available", error_message = "",
    }
  end
  return images
end

return catalogue
