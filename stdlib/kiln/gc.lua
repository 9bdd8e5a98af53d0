---What kiln made and nothing needs any more: found by the ledger and, in the cloud, by its tags.
---
---Only what this project's state file knows is ever removed. What carries kiln's tags and belongs
---to a run that the state file does not know is of another project, or of a lost state file; it is
---shown, and `adopt` writes it into the ledger.
local json = require "rt.json"
local timer = require "rt.timer"
local error_ = require "kiln.error"

local gc = {}

---@class kiln.gc.Row
---@field kind "machine"|"image"|"address"
---@field id? string the cloud's; nil: the cloud has it no more
---@field name string
---@field provider string
---@field token? string
---@field run? string the run that made it
---@field created? number seconds since 1970
---@field monthly? number US dollars, where the cloud says so
---@field why string
---@field release? integer the release that ends with it
---@field scope? string the lock of that release's service

local open_states = { running = true, aborting = true, stopped = true, kept = true }

---Who needs what: by machine id, image name and address id.
local function needed(store, now)
  local needs, over = { machine = {}, image = {}, address = {} }, {}
  for _, row in ipairs(store:releases()) do
    local data = json.decode(row.data)
    local expired = row.state == "kept" and row.kept_until and row.kept_until < now
    for _, one in ipairs(data.machines) do
      if expired then
        over[one.id] = { release = row.id, scope = row.env .. "/" .. row.service,
          why = ("release %s was kept until %s"):format(row.version,
            os.date("%Y-%m-%d %H:%M", row.kept_until // 1)) }
      else
        needs.machine[one.id] = true
      end
    end
    if not expired then needs.image[row.image] = true end
    needs.address[data.address.id] = true
  end
  return needs, over
end

---What the cloud has of kiln's. Bases are nobody's; an address may have no token of its own.
local function seen_in(driver)
  local seen = {}
  local function add(kind, rows)
    for _, row in ipairs(rows) do
      if kind == "address" or (row.token or ""):find("^kl%-") then
        seen[#seen + 1] = { kind = kind, row = row }
      end
    end
  end
  add("machine", driver:machines())
  add("image", driver:images())
  if driver.capabilities.addresses then add("address", driver:addresses()) end
  return seen
end

local function entry(driver, kind, row, why, more)
  local made = {
    kind = kind, id = row.id, name = row.name, provider = driver.name, token = row.token,
    run = row.token and row.token:match("^kl%-(%x+)%-"), created = row.created,
    monthly = row.monthly, why = why, tags = row.tags, target = row.target, ip = row.ip,
    image = row.image, address = row.address,
  }
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end

local function run_of(store, id, runs)
  if id and runs[id] == nil then runs[id] = store:run(id) or false end
  return id and runs[id] or nil
end

local function is_needed(needs, kind, row)
  return needs[kind][row.id] or kind == "image" and needs.image[row.name]
end

---Sorts what a cloud has and what the ledger says into what may go and what is somebody else's.
---@async
---@param store kiln.Store
---@param driver table
---@return { garbage: kiln.gc.Row[], open: kiln.gc.Row[], foreign: kiln.gc.Row[] } `open` belongs to
---  runs that can be resumed or aborted
function gc.find(store, driver)
  local now, runs = timer.time(), {}
  local needs, over = needed(store, now)
  local ledger, by_id, found = {}, {}, { garbage = {}, open = {}, foreign = {} }
  for _, row in ipairs(store:ledger()) do
    if row.provider == driver.name then ledger[row.token] = row end
    if row.provider == driver.name and row.state == "live" then
      by_id[row.kind .. " " .. row.id] = row
    end
  end
  local function put(list, ...) table.insert(found[list], entry(driver, ...)) end
  for _, one in ipairs(seen_in(driver)) do
    local kind, row = one.kind, one.row
    local known = row.token and ledger[row.token] or by_id[kind .. " " .. row.id]
    if known then
      ledger[known.token] = nil
      row.token = known.token
    end
    local run = known and run_of(store, known.run, runs)
    if not known then
      put("foreign", kind, row, "not in this project's ledger")
    elseif over[row.id] and kind == "machine" then
      put("garbage", kind, row, over[row.id].why, over[row.id])
    elseif is_needed(needs, kind, row) then
      needs[kind][row.id] = true
    elseif run and open_states[run.status] then
      put("open", kind, row, ("run %s is %s"):format(run.id:sub(1, 4), store:state_of(run)))
    else
      put("garbage", kind, row, kind == "image" and "no release uses it"
        or ("run %s is over"):format((known.run or "?"):sub(1, 4)))
    end
  end
  for token, row in pairs(ledger) do
    local run = run_of(store, row.run, runs)
    if row.state ~= "gone" and not (run and open_states[run.status]) and row.kind ~= "database" then
      table.insert(found.garbage, { kind = row.kind, name = row.name, provider = driver.name,
        token = token, run = row.run, created = row.created,
        why = "in the ledger, but not in the cloud" })
    end
  end
  for _, list in pairs(found) do
    table.sort(list, function(a, b)
      if a.kind ~= b.kind then return a.kind > b.kind end -- machines stand on images
      return a.name < b.name
    end)
  end
  return found
end

local destroy = {
  machine = function(driver, id) driver:destroy_machine(id) end,
  image = function(driver, id) driver:destroy_image(id) end,
  address = function(driver, id) driver:destroy_address(id) end,
}

---Removes one row of `garbage`. A release that it ends is retired under its service's lock.
---Raises `locked`, and what the cloud raises.
---@async
---@param store kiln.Store
---@param driver table
---@param row kiln.gc.Row
function gc.remove(store, driver, row)
  if row.release then
    local fence = store:lease_take { scope = row.scope, run = "gc", ttl = 600 }
    if not fence then
      error_.raise { kind = "locked", message = ("a run works on %s"):format(row.scope) }
    end
    store:release_state(row.release, "retired")
    store:lease_release()
  end
  if row.id then destroy[row.kind](driver, row.id) end
  store:ledger_gone(row.token)
end

---Writes what the cloud has and the ledger has not into the ledger; for a service whose address
---points to one of the machines, the release that serves, too.
---@param store kiln.Store
---@param driver table
---@param rows kiln.gc.Row[] `foreign` of `find`
---@param env string
---@return integer releases that were rebuilt
function gc.adopt(store, driver, rows, env)
  local machines, releases = {}, 0
  store:together(function()
    for _, row in ipairs(rows) do
      local service = row.tags and row.tags.kiln_service
      row.token = row.token or ("kl-adopted-%s-%s"):format(row.kind, row.id)
      store:ledger_intent {
        run = row.run or "", key = "adopted", provider = driver.name, kind = row.kind,
        name = row.name, token = row.token, service = service,
        colour = row.tags and row.tags.kiln_colour,
      }
      store:ledger_live(row.token, row.id, json.encode { id = row.id, name = row.name })
      if row.kind == "machine" then machines[row.id] = row end
    end
    for _, row in ipairs(rows) do
      local one = row.kind == "address" and row.target and machines[row.target]
      local service = one and one.tags.kiln_service
      if service and not store:serving(service, env) then
        releases = releases + 1
        store:release_promote {
          run = one.run or "", service = service, env = env, version = one.image,
          image = one.image, colour = one.tags.kiln_colour or "blue", kept_until = 0,
          data = json.encode {
            service = service, version = one.image, image = one.image, serial = 1,
            colour = one.tags.kiln_colour or "blue",
            machines = { { id = one.id, name = one.name, address = one.address, image = one.image,
              token = one.token } },
            address = { id = row.id, name = row.name, ip = row.ip, kind = "address" },
          },
        }
      end
    end
  end)
  return releases
end

return gc
