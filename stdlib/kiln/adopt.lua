---Writes what the cloud has and the ledger has not into the ledger, and rebuilds the releases: the
---one that a front leads to serves, the newest other one of its service is kept.
local json = require "rt.json"

local adopt = {}

---Writes one thing down.
local function record(store, row)
  local tags = row.row.tags or {}
  row.token = row.token or ("kl-adopted-%s-%s"):format(row.kind, row.id)
  store:ledger_intent {
    run = row.run or "", key = "adopted", provider = row.provider, kind = row.kind,
    name = row.name, token = row.token, service = tags.kiln_service, colour = tags.kiln_colour,
  }
  store:ledger_live(row.token, row.id, json.encode {
    id = row.id, name = row.name, address = row.row.address, image = row.row.image,
  })
end

---The fronts of a cloud: what each one is, and the machines behind it.
local function fronts_of(driver)
  local list = {}
  for _, row in ipairs(driver.capabilities.addresses and driver:addresses() or {}) do
    list[#list + 1] = { kind = "address", row = row, targets = { row.target } }
  end
  for _, row in ipairs(driver.capabilities.load_balancers and driver:balancers() or {}) do
    list[#list + 1] = { kind = "balancer", row = row, targets = row.members }
  end
  return list
end

---Groups machines into releases: one creation made all of a release's machines.
local function releases_of(rows, env)
  local groups, order = {}, {}
  for _, row in ipairs(rows) do
    local tags = row.row.tags or {}
    if row.kind == "machine" and tags.kiln_service then
      local key = (row.token or row.name):gsub("%-%d+$", "")
      if not groups[key] then
        groups[key] = { env = tags.kiln_env or env, service = tags.kiln_service, tags = tags,
          machines = {}, created = 0 }
        order[#order + 1] = groups[key]
      end
      table.insert(groups[key].machines, row)
      groups[key].created = math.max(groups[key].created, row.created or 0)
    end
  end
  table.sort(order, function(a, b) return a.created > b.created end)
  return order
end

---The front that leads to a release.
local function front_of(release, fronts)
  for _, front in ipairs(fronts) do
    for _, target in ipairs(front.targets) do
      for _, one in ipairs(release.machines) do
        if one.id == target then return front end
      end
    end
  end
end

local function health_of(tags)
  local port, path = (tags.kiln_health or ""):match("^(%d+) (.+)$")
  return port and { port = math.tointeger(tonumber(port)), path = path }
end

---Writes a release down, as the run that made it would have.
local function promote(store, driver, release, front, image_names)
  local first, tags, machines = release.machines[1], release.tags, {}
  for index, one in ipairs(release.machines) do
    machines[index] = { id = one.id, name = one.name, address = one.row.address,
      image = one.row.image, token = one.token }
  end
  local image = image_names[first.row.image] or first.row.image or ""
  local version, colour = tags.kiln_version or image, tags.kiln_colour or "blue"
  local serial = first.name:match("%-%l+%-(%d+)%-%d+$") or first.name:match("%-(%d+)$")
  store:release_promote {
    run = first.run or "", service = release.service, env = release.env, cloud = driver.name,
    version = version, image = image, colour = colour, kept_until = nil,
    data = json.encode {
      service = release.service, version = version, image = image, colour = colour,
      serial = math.tointeger(tonumber(serial)) or 1, machines = machines, keep = 900,
      health = health_of(tags),
      address = { id = front.row.id, name = front.row.name, ip = front.row.ip, kind = front.kind },
    },
  }
  return version
end

local function names(release)
  local list = {}
  for index, one in ipairs(release.machines) do list[index] = one.name end
  table.sort(list)
  return table.concat(list, ", ")
end

---Ends the releases of the ledger whose machines are gone: another checkout replaced them.
local function retire_gone(store, service, env, machines)
  for _, row in ipairs(store:releases(env)) do
    local alive = row.service ~= service
    for _, one in ipairs(json.decode(row.data).machines) do
      alive = alive or machines[one.id] ~= nil
    end
    if not alive then store:release_state(row.id, "retired") end
  end
end

---Tells whether the release that the ledger says serves is the one that a front leads to.
local function is_right(serving, fronts)
  local release = { machines = json.decode(serving.data).machines }
  return front_of(release, fronts) ~= nil
end

---Rebuilds one service of an environment from its releases, the newest first.
local function rebuild(store, driver, releases, context)
  local service, env = releases[1].service, releases[1].env
  local name = ("%s (%s)"):format(service, env)
  retire_gone(store, service, env, context.machines)
  local now = store:serving(service, env)
  if now and is_right(now, context.fronts) then
    return ("%s: the ledger has the release that serves, %s"):format(name, now.version)
  end
  local serving, front, kept
  for _, release in ipairs(releases) do
    local found = front_of(release, context.fronts)
    if found and serving then
      return ("%s: fronts lead to %s and to %s, so kiln cannot tell which release serves; point "
        .. "them to one of these, then adopt again"):format(name, names(serving), names(release))
    elseif found then
      serving, front = release, found
    else
      kept = kept or release
    end
  end
  if not serving then
    return ("%s: no address and no load balancer leads to %s, so kiln cannot tell which release "
      .. "serves; point the front to one of these, then adopt again"):format(name, names(kept))
  end
  if kept then promote(store, driver, kept, front, context.images) end
  local version = promote(store, driver, serving, front, context.images)
  return ("%s: %s serves on %s behind %s %s%s"):format(name, version, names(serving), front.kind,
    front.row.name, kept and ("; %s is kept"):format(names(kept)) or "")
end

---Adopts what `gc.find` found to be lost or unlabelled.
---@async
---@param store kiln.Store
---@param driver table
---@param rows kiln.gc.Row[]
---@param env string the environment of machines that an older kiln gave no label
---@return string[] lines what became of each service
function adopt.rows(store, driver, rows, env)
  local context = { fronts = fronts_of(driver), images = {}, machines = {} }
  for _, row in ipairs(driver:machines()) do context.machines[row.id] = row end
  for _, row in ipairs(driver:images()) do context.images[row.id] = row.name end
  local services, order, lines = {}, {}, {}
  for _, release in ipairs(releases_of(rows, env)) do
    local key = release.env .. "/" .. release.service
    if not services[key] then
      services[key] = {}
      order[#order + 1] = key
    end
    table.insert(services[key], release)
  end
  table.sort(order)
  store:together(function()
    for _, row in ipairs(rows) do record(store, row) end
    for index, key in ipairs(order) do
      lines[index] = rebuild(store, driver, services[key], context)
    end
  end)
  return lines
end

return adopt
