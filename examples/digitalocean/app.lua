---The talk's deployment in one file: image, managed PostgreSQL, address or load balancer, DNS.
---
---First deploy, new version and changed configuration are the same command with other arguments.
---Everything of an environment has its name: `-e staging` stands beside the default one.
---`--cloud digitalocean` in production, `--cloud local` on a laptop, where a local machine runs
---Debian's PostgreSQL and everything else is the same.
local bake = require "recipes.bake"
local blue_green = require "recipes.blue_green"
local cloudinit = require "kiln.cloudinit"
local remove = require "recipes.remove"
local scope = require "kiln.scope"

local app = { name = "app", base = "debian-13", size = "s-1vcpu-1gb" }

app.args = {
  version = { "release to put into service", default = "v1", choices = { "v1", "v2" } },
  count = { "machines; more than one are behind a load balancer", default = 1 },
  greeting = { "configuration: what the app says", default = "Hello" },
  domain = { "domain whose name `app` points here (none)", default = "" },
  health_within = { "seconds until the new release must be healthy", default = 60 },
}

---Beside the default one.
app.environments = { "production", "staging" }

---What the account's things are like. The region is DIGITALOCEAN_REGION's, else fra1.
app.clouds = { digitalocean = { monitoring = true } }

local health = { path = "/health/check", port = 8080 }

---Bakes one release. The same inputs give the image that exists already, in every environment.
function app.bake(run, args)
  return bake(run, {
    name = app.name, base = app.base, size = app.size, inputs = { args.version },
    build = function(box)
      box:upload("app.service", "/usr/lib/systemd/system/app.service")
      box:upload("bin/app-" .. args.version, "/opt/app/app", { mode = "0755" })
      box:run "systemctl enable app"
    end,
  })
end

---Looks the database up, or makes it. It outlives every release.
local function database(run)
  return run:step {
    name = "database " .. run.name .. "-db",
    perform = function()
      local found = run.cloud:database(nil, { create = true, engine = "pg" })
      found:allow()
      return found, ("%s:%d  online"):format(found.host, found.port)
    end,
  }
end

---What traffic comes in by: an address for one machine, a load balancer for several.
local function front(run, args)
  if args.count == 1 then return run.cloud:address() end
  return run.cloud:balancer(nil, {
    port = 80, target_port = health.port, health = health, count = args.count,
  })
end

---Gives a new machine what its user-data must not say.
local function configure(db)
  return function(machine)
    local secrets = db:secrets()
    machine:write("/opt/app/db-ca.pem", secrets.ca)
    machine:env_file("/opt/app/secret.env", { DB_PASSWORD = secrets.password })
    machine:run "systemctl restart app"
  end
end

local function settings(args, db)
  return cloudinit.config {
    cloudinit.env_file("/opt/app/conf.env", {
      DB_HOST = db.host, DB_PORT = db.port, DB_USER = db.user, DB_NAME = db.database,
      DB_CA = "/opt/app/db-ca.pem", GREETING = args.greeting,
    }),
  }
end

local function point_name(run, args, ip)
  if args.domain == "" then return end
  run:step {
    name = ("record %s.%s"):format(run.name, args.domain),
    perform = function()
      return nil, run.cloud:record { domain = args.domain, data = ip, ttl = 60 }
    end,
  }
end

---Puts a release or a configuration into service, with no request lost.
function app.deploy(run, args)
  if args.count > 1 then run.cloud:need "load_balancers" end
  if args.domain ~= "" then run.cloud:need "dns" end
  run.cloud:preflight { machines = args.count + 1, size = app.size }
  local stages = scope.all { -- what does not wait for each other
    function() return app.bake(run, args) end,
    function() return database(run) end,
    function() return front(run, args) end,
  }
  local image, db, entrance = stages[1], stages[2], stages[3]
  health.within = args.health_within
  local done = blue_green(run, {
    version = args.version, image = image, size = app.size,
    count = args.count, user_data = settings(args, db), configure = configure(db),
    front = entrance, health = health,
  })
  point_name(run, args, entrance.ip)
  return done
end

---Takes the service away: machines, front, images. The database and the name stay.
function app.remove(run)
  return remove(run, { address = run.name, balancer = run.name, images = true })
end

return app
