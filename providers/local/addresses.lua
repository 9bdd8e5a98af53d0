---Floating addresses of the local cloud. A file `addresses/<n>` owns the address that ends in n, so
---two kilns never hand out the same one and a killed one leaves nothing half done.
local fs = require "rt.fs"
local json = require "rt.json"
local machine = require "rt.machine"
local timer = require "rt.timer"
local error_ = require "kiln.error"

local addresses = {}

local lowest, highest = 1, 254

local function folder(site)
  return site.dir .. "/addresses"
end

---Gives "10.199.78." of the site's net for floating addresses; starts the site's network.
local function prefix(site)
  local net = error_.check(machine.network_up { dir = site.dir }).address_net
  return net:match("^(%d+%.%d+%.%d+%.)")
end

---Gives what is owned, lowest number first: { number, name, token, created }.
local function owned(site)
  local rows = {}
  for _, file in ipairs(fs.list(folder(site)) or {}) do
    local number = math.tointeger(tonumber(file))
    local text = number and fs.read(folder(site) .. "/" .. file)
    local row = text and json.decode(text)
    if row then
      row.number = number
      rows[#rows + 1] = row
    end
  end
  table.sort(rows, function(a, b) return a.number < b.number end)
  return rows
end

---Gives the machine addresses that floating addresses point to, by floating address.
local function targets(site)
  local by_ip = {}
  for _, row in ipairs(error_.check(machine.addresses { dir = site.dir })) do
    by_ip[row.address] = row.target
  end
  return by_ip
end

---Gives every floating address, as rows of the driver contract.
---@async
---@param site table
---@param machines table[] rows of the driver contract
---@return table[]
function addresses.list(site, machines)
  local rows = owned(site)
  if #rows == 0 then return rows end
  local net, target, names = prefix(site), targets(site), {}
  for _, row in ipairs(machines) do names[row.address] = row.id end
  for index, row in ipairs(rows) do
    local ip = net .. row.number
    rows[index] = {
      id = tostring(row.number), name = row.name, token = row.token, ip = ip, tags = row.tags or {},
      target = names[target[ip] or ""], target_ip = target[ip],
    }
  end
  return rows
end

local function claim(site, name, token, tags)
  error_.check(fs.mkdir(folder(site), { parents = true }))
  local text = json.encode {
    name = name, token = token, tags = tags, created = timer.time() // 1 | 0,
  }
  for number = lowest, highest do
    local done, err = fs.write(("%s/%d"):format(folder(site), number), text, { exclusive = true })
    if done then return number end
    if not error_.is(err, "exists") then error_.check(nil, err) end
  end
  error_.raise { kind = "limit", message = "the site has no floating address left" }
end

---Makes an address of that name, or gives the one that is there. Two that are made at the same time
---see each other after both are claimed; the lower one stays.
---@async
---@param site table
---@param name string
---@param token? string
---@param tags? table<string, string> whose it is
---@return string id
function addresses.create(site, name, token, tags)
  local function find()
    for _, row in ipairs(owned(site)) do
      if row.name == name then return row.number end
    end
  end
  local there = find()
  if there then return tostring(there) end
  local mine = claim(site, name, token, tags)
  local first = find()
  if first and first ~= mine then fs.remove(("%s/%d"):format(folder(site), mine)) end
  return tostring(first or mine)
end

---Points an address to a machine's, or to none.
---@async
---@param site table
---@param id string
---@param target_ip? string
function addresses.assign(site, id, target_ip)
  error_.check(machine.address_set {
    dir = site.dir, address = prefix(site) .. id, target = target_ip,
  })
end

---Gives an address back; fine when it is gone.
---@async
---@param site table
---@param id string
function addresses.destroy(site, id)
  if not tostring(id):find("^%d+$") then return end
  local path = ("%s/%s"):format(folder(site), id)
  if not fs.stat(path) then return end
  addresses.assign(site, id, nil)
  local done, err = fs.remove(path)
  if not done and not error_.is(err, "not_found") then error_.check(nil, err) end
end

return addresses
