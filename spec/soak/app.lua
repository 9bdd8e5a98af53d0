---What the soak deploys: the example's service, with a number that makes a new image.
local bake = require "recipes.bake"
local blue_green = require "recipes.blue_green"
local cloudinit = require "kiln.cloudinit"
local remove = require "recipes.remove"

local soak = { name = "soak" }

soak.args = {
  version = { "release to put into service", default = "v1", choices = { "v1", "v2" } },
  build = { "another number is another image", default = 1 },
}

---Bakes one release.
function soak.bake(run, args)
  return bake(run, {
    name = soak.name, base = "debian-13", inputs = { args.version, args.build },
    build = function(box)
      box:upload("app.service", "/usr/lib/systemd/system/app.service")
      box:upload("bin/app-" .. args.version, "/opt/app/app", { mode = "0755" })
      box:run "systemctl enable app"
    end,
  })
end

---Puts a release into service, with no request lost.
function soak.deploy(run, args)
  return blue_green(run, {
    version = args.version, image = soak.bake(run, args),
    user_data = cloudinit.config {
      cloudinit.env_file("/opt/app/conf.env", { DB_HOST = "db.internal" }),
    },
    health = { path = "/health/check", port = 8080, within = 60 },
  })
end

---Takes everything away.
function soak.remove(run)
  return remove(run, { images = true })
end

return soak
