---Real machines behind a simulated cloud: what takes real time is a job, and the simulator looks at
---its end whenever a request comes.
---
---Jobs on one machine happen one after the other. Nothing here waits for a caller: an answer of the
---simulator is a function of what is known when the request comes.
local json = require "rt.json"
local rt_machine = require "rt.machine"
local rt_task = require "rt.task"
local timer = require "rt.timer"
local error_ = require "kiln.error"
local balancer = require "kiln.sim.balancer"
local site = require "kiln.sim.site"
local user_data = require "kiln.user_data"

local machines = {}

---How often the host is asked which machines have switched themselves off.
local look_seconds = 0.25

---@class kiln.sim.Machines
---@field create fun(droplet: table): kiln.sim.Job value: { address }
---@field power_off fun(id: integer): kiln.sim.Job
---@field power_on fun(id: integer): kiln.sim.Job
---@field destroy fun(id: integer): kiln.sim.Job
---@field snapshot fun(id: integer, name: string): kiln.sim.Job value: { id, gigabytes }
---@field destroy_image fun(local_image: string): kiln.sim.Job
---@field reserve fun(): string gives an address that was set aside
---@field release fun(ip: string): kiln.sim.Job
---@field assign fun(ip: string, id: integer?): kiln.sim.Job
---@field create_database fun(cluster: table): kiln.sim.Job value: { host, port, ca }
---@field destroy_database fun(name: string): kiln.sim.Job
---@field let_in fun(database: string, droplet: table): kiln.sim.Job
---@field balance fun(id: string, view: fun(): kiln.sim.BalancerView): kiln.sim.Job value: { ip }
---@field end_balance fun(id: string): kiln.sim.Job
---@field stopped fun(): integer[] ids of those that switched themselves off
---@field close fun() ends the jobs and removes the site with everything in it

---@class kiln.sim.Job
---@field done boolean
---@field error? kiln.Error
---@field value? any

---Joins the keys of a droplet to its user data: a cloud gives them to the guest by itself. What
---kiln would refuse, cloud-init gets as it came.
---@param keys string[] public keys
---@param text? string as the client sent it
---@return string? user_data
function machines.user_data(keys, text)
  if #keys == 0 then return text end
  local ours = { ssh_authorized_keys = json.array(table.move(keys, 1, #keys, 1, {})) }
  local ok, joined = pcall(user_data.join, ours, text)
  return ok and joined or text
end

---Runs jobs: those with the same key one after the other.
local function queue(log)
  local last, running = {}, {}
  local self = {}

  function self.start(key, what, body)
    local job, before = { done = false }, last[key]
    local task = rt_task.spawn(function()
      if before then before:join() end
      local ok, value = xpcall(body, error_.from)
      if ok then job.value = value else job.error = value end
      if not ok and value.kind ~= "cancelled" then log(("%s: %s"):format(what, value.message)) end
      job.done = true
      running[job] = nil
    end)
    last[key], running[job] = task, task
    return job
  end

  function self.close()
    for _, task in pairs(running) do task:cancel() end
    while next(running) do
      local _, task = next(running)
      task:join()
    end
  end

  return self
end

---A name that the host takes, of what the client called its droplet.
local function host_name(droplet)
  local name = droplet.name:lower():gsub("[^a-z0-9%-]+", "-"):sub(1, 40)
  return ("%s-%d"):format(name, droplet.id)
end

---Looks now and then which machines run, until it is cancelled.
local function watch(driver, state)
  while true do
    timer.sleep(look_seconds)
    if next(state.names) then
      for _, row in ipairs(driver:machines()) do
        if row.state == "stopped" then state.off[row.id] = true end
      end
    end
  end
end

---Sets addresses aside, so that an answer need not wait for one.
local function set_aside(driver, count)
  local free = {}
  for number = 1, count do
    local row = driver:create_address { name = "reserved-" .. number }
    free[number] = { id = row.id, ip = driver:address("reserved-" .. number).ip }
  end
  return free
end

---Adds what runs a cluster: PostgreSQL on a machine of its own, under its name.
local function add_databases(self, driver, jobs)
  local function key(name) return "database " .. name end

  function self.create_database(cluster)
    return jobs.start(key(cluster.name), "create database " .. cluster.name, function()
      local made = driver:create_database(cluster)
      local online = driver:await_database(made.id)
      return { host = online.host, port = online.port, ca = driver:database_secrets(made.id).ca }
    end)
  end

  ---The droplet need not be there yet.
  function self.let_in(name, droplet)
    return jobs.start(key(name), "database " .. name .. " lets a droplet in", function()
      local there = driver:database(name)
      if not there then return end
      error_.check(rt_machine.admit {
        dir = driver.site.dir, name = there.id, group = "/" .. host_name(droplet),
      })
    end)
  end

  function self.destroy_database(name)
    return jobs.start(key(name), "destroy database " .. name, function()
      local there = driver:database(name)
      if there then driver:destroy_database(there.id) end
    end)
  end
end

---Adds load balancers; gives what ends them all.
local function add_balancers(self, jobs, log)
  local open = {}

  function self.balance(id, view)
    return jobs.start(id, "load balancer", function()
      open[id] = balancer.open(view, log)
      return { ip = open[id].ip }
    end)
  end

  function self.end_balance(id)
    return jobs.start(id, "load balancer's end", function()
      local there = open[id]
      open[id] = nil
      if there then there:close() end
    end)
  end

  return function()
    for _, one in pairs(open) do one:close() end
  end
end

---Opens machines behind a simulator, in a site of their own that goes away with them.
---@async
---@param driver table of the local cloud
---@param opts { addresses: integer, base: string?, progress: (fun(text: string))?,
---  log: fun(text: string) } how many addresses are set aside; the base image ("debian-13"); what a
---  job that failed says
---@return kiln.sim.Machines
function machines.open(driver, opts)
  local base = driver:base_image(opts.base or "debian-13", opts.progress)
  local jobs, state = queue(opts.log), { names = {}, off = {}, ids = {} }
  local free, taken, self = set_aside(driver, opts.addresses), {}, {}
  local watcher = rt_task.spawn(watch, driver, state)
  add_databases(self, driver, jobs)
  local close_balancers = add_balancers(self, jobs, opts.log)

  function self.create(droplet)
    local name = host_name(droplet)
    return jobs.start(droplet.id, "create " .. name, function()
      local row = driver:create_machine {
        name = name, token = name, image = droplet.image.local_image or base.id,
        user_data = machines.user_data(droplet.keys, droplet.user_data), tags = {},
      }
      state.names[droplet.id], state.ids[row.id] = row.id, droplet.id
      return { address = row.address }
    end)
  end

  ---A job on a machine that must be there.
  local function on_machine(id, what, body)
    return jobs.start(id, what, function()
      local name = state.names[id]
      if not name then
        error_.raise { kind = "not_found", message = ("droplet %d has no machine"):format(id) }
      end
      return body(name)
    end)
  end

  function self.power_off(id)
    return on_machine(id, "power off", function(name) driver:power_off(name) end)
  end

  function self.power_on(id)
    return on_machine(id, "power on", function(name)
      state.off[name] = nil
      error_.check(rt_machine.start { dir = driver.site.dir, name = name })
      state.off[name] = nil
    end)
  end

  function self.destroy(id)
    return jobs.start(id, "destroy", function()
      local name = state.names[id]
      if not name then return end
      driver:destroy_machine(name)
      state.names[id], state.ids[name], state.off[name] = nil, nil, nil
    end)
  end

  function self.snapshot(id, name)
    return on_machine(id, "snapshot " .. name, function(machine)
      local own = ("snapshot-%d-%d"):format(id, timer.time() * 1000 // 1 | 0)
      local image = driver:snapshot { machine = machine, name = own, token = own }
      return { id = image.id, gigabytes = math.max((image.bytes or 0) / 1e9, 0.01) }
    end)
  end

  function self.destroy_image(image)
    return jobs.start(image, "delete image", function() driver:destroy_image(image) end)
  end

  function self.reserve()
    local row = table.remove(free, 1)
    taken[row.ip] = row
    return row.ip
  end

  function self.release(ip)
    local row = taken[ip]
    taken[ip] = nil
    return jobs.start(ip, "release " .. ip, function()
      driver:assign_address(row.id, nil)
      free[#free + 1] = row
    end)
  end

  function self.assign(ip, id)
    return jobs.start(ip, "assign " .. ip, function()
      driver:assign_address(taken[ip].id, id and state.names[id])
    end)
  end

  function self.stopped()
    local ids = {}
    for name in pairs(state.off) do ids[#ids + 1] = state.ids[name] end
    return ids
  end

  function self.close()
    watcher:cancel()
    watcher:join()
    jobs.close()
    close_balancers()
    site.remove(driver)
  end

  return self
end

return machines
