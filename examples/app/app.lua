---The app of the talk: a small service with a database behind it, released by replacement.
local bake = require "recipes.bake"
local blue_green = require "recipes.blue_green"
local cloudinit = require "kiln.cloudinit"

local app = { name = "app", base = "debian-13" }

app.args = {
  version = { "release to put into service", required = true, choices = { "v1", "v2", "v3" } },
  db_host = { "host of the database, which outlives every release", default = "db.internal" },
  greeting = { "what the app says", default = "Hello" },
  health_within = { "seconds until the new release must be healthy", default = 30 },
}

---Bakes one release. The same inputs give the image that exists already.
function app.bake(run, args)
  return bake(run, {
    name = app.name, base = app.base, inputs = { args.version },
    build = function(box)
      box:upload("app.service", "/usr/lib/systemd/system/app.service")
      box:upload("bin/app-" .. args.version, "/opt/app/app", { mode = "0755" })
      box:run "systemctl enable app"
    end,
  })
end

---Puts a release into service, with no request lost.
function app.deploy(run, args)
  return blue_green(run, {
    version = args.version,
    image = app.bake(run, args),
    user_data = cloudinit.config {
      cloudinit.env_file("/opt/app/conf.env", { DB_HOST = args.db_host, GREETING = args.greeting }),
    },
    front = run.cloud:address(),
    health = { path = "/health/check", port = 8080, within = args.health_within },
  })
end

return app
