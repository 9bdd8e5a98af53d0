---A user of kiln in a spec: a folder of their own outside the tree, with a recipe written as README
---says, local machines of its own, and the kiln program run in that folder as a child process.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local rt_http = require "rt.http"
local timer = require "rt.timer"
local local_site = require "spec.support.local_site"
local simulator = require "spec.support.simulator"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local stranger = {}

---A service that needs nothing but the base: its health answer tells its version.
stranger.recipe = [=[
local bake = require "recipes.bake"
local blue_green = require "recipes.blue_green"
local remove = require "recipes.remove"

local app = { name = "app", base = "debian-13" }

app.args = { version = { "release to put into service", default = "v1" } }

local unit = [[
[Service]
ExecStart=/usr/bin/python3 -m http.server 8080 -d /srv
[Install]
WantedBy=multi-user.target
]]

function app.bake(run, args)
  return bake(run, {
    name = app.name, base = app.base, inputs = { args.version },
    build = function(box)
      box:write("/etc/systemd/system/web.service", unit)
      box:run("mkdir -p /srv && printf '{\"version\":\"%s\"}' " .. args.version .. " > /srv/health")
      box:run "systemctl enable web"
    end,
  })
end

function app.deploy(run, args)
  return blue_green(run, {
    version = args.version, image = app.bake(run, args), FRONT
    health = { path = "/health", port = 8080, within = 60 }, drain = 2,
  })
end

function app.remove(run)
  return remove(run, { images = true })
end

return app
]=]

---@class spec.Stranger
---@field home string the folder that all is in
---@field dir string the project
---@field env table<string, string>
---@field sim? spec.Simulator
local Stranger = {}
Stranger.__index = Stranger

---Tells why there can be no machines here; nil when there can.
---@async
---@return string?
stranger.lacking = local_site.lacking

---Makes a user with an empty project.
---@async
---@param opts? { cloud: "digitalocean"?, machines: "none"?, faults: string? } a simulated account,
---  whose droplets are local machines, or rows; a file of faults
---@return spec.Stranger
function stranger.new(opts)
  rt_http.request { url = "http://127.0.0.1:1/" } -- libcurl opens what it keeps for good
  local home = assert(fs.temp_dir())
  assert(proc.run { argv = { "chmod", "711", home } }) -- a machine's root is an ordinary user here
  local self = setmetatable({ home = home, dir = home .. "/app" }, Stranger)
  assert(fs.mkdir(self.dir))
  self.env = {
    KILN_PATH = tree, NO_COLOR = "1", KILN_LOCAL_DIR = home .. "/site",
    KILN_LOCAL_BASE = local_site.archives,
  }
  if opts and opts.cloud then
    local words = { "--machines", opts.machines or "local", "--latency", "create=1,off=1,on=1,"
      .. "snapshot=1,assign=1,destroy=1,database=1,load_balancer=1,load_balancer_update=1" }
    if opts.faults then table.move({ "--faults", opts.faults }, 1, 2, #words + 1, words) end
    self.sim = simulator.start(words, 900)
    self.env.DIGITALOCEAN_API_URL, self.env.DIGITALOCEAN_TOKEN = self.sim.url, self.sim.token
    self.env.KILN_CLOUD = opts.cloud
  end
  return self
end

---Writes a file of the project.
---@param name string
---@param text string
function Stranger:write(name, text)
  assert(fs.write(self.dir .. "/" .. name, text))
end

---Writes the recipe.
---@param front? string the option that names the front (kiln's own)
---@param more? fun(text: string): string changes the text
function Stranger:write_recipe(front, more)
  local text = stranger.recipe:gsub("FRONT", function() return front or "" end)
  self:write("app.lua", more and more(text) or text)
end

---Goes on in a fresh folder that has these files of the one before.
---@param files string[]
function Stranger:checkout(files)
  local old = self.dir
  self.dir = ("%s/checkout-%d"):format(self.home, #assert(fs.list(self.home)))
  assert(fs.mkdir(self.dir))
  for _, name in ipairs(files) do self:write(name, assert(fs.read(old .. "/" .. name))) end
end

---Runs kiln in the project's folder.
---@async
---@param ... string words
---@return { code: integer, out: string, err: string } done
function Stranger:kiln(...)
  return assert(proc.run { argv = { exe, ... }, cwd = self.dir, env = self.env, timeout = 300 })
end

---Runs kiln, which must end with 0.
---@async
---@param ... string words
---@return string err what it said
---@return string out
function Stranger:must(...)
  local done = self:kiln(...)
  if done.code ~= 0 then
    error(("kiln %s ended with %s:\n%s%s"):format(table.concat({ ... }, " "), tostring(done.code),
      done.out, done.err), 2)
  end
  return done.err, done.out
end

---Lists the releases that `kiln status` has.
---@async
---@return table[]
function Stranger:releases()
  local _, out = self:must("status", "--json")
  return assert(json.decode(out))
end

---Asks an address for the version that it serves.
---@async
---@param ip string
---@return string? version nil: no good answer
function stranger.version_at(ip)
  local answer = rt_http.request {
    url = ("http://%s:8080/health"):format(ip), timeout = 10, fresh_connection = true,
  }
  rt_http.forget()
  local body = answer and answer.status == 200 and json.decode(answer.body)
  return body and body.version
end

local function names_of(self)
  local names = {}
  if self.sim then
    for _, one in ipairs(self.sim:call("GET", "/v2/droplets").droplets) do
      names[#names + 1] = one.name
    end
  else
    for _, one in ipairs(assert(require("rt.machine").list { dir = self.home .. "/site" })) do
      names[#names + 1] = one.name
    end
  end
  table.sort(names)
  rt_http.forget() -- kept connections are not a test's leak
  return names
end

---Names the machines in the cloud, sorted. A droplet may be listed for a moment after
---its end, so those that are wanted are waited for.
---@async
---@param wanted string[]
---@return string[]
function Stranger:machines(wanted)
  local deadline = timer.now() + 10
  while true do
    local names = names_of(self)
    local same = table.concat(names, " ") == table.concat(wanted, " ")
    if same or timer.now() > deadline then return names end
    timer.sleep(0.2)
  end
end

---Ends everything and removes the folder.
---@async
function Stranger:close()
  if self.sim then self.sim:close() end
  local site = self.home .. "/site"
  if fs.stat(site) then local_site.remove(site) end
  assert(fs.remove(self.home, { recursive = true }))
  rt_http.forget()
end

return stranger
