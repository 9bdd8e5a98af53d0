---The release whose run is killed everywhere: an image, an address, a swap.
local bake = require "recipes.bake"
local blue_green = require "recipes.blue_green"

local app = { name = "app" }

app.args = { version = { "release to put into service", required = true } }

---Puts a release into service.
function app.deploy(run, args)
  local image = bake(run, {
    name = app.name, base = "debian-12-x64", inputs = { args.version },
    build = function(box)
      box:upload("app.conf", "/opt/app/app.conf")
      box:run("echo " .. args.version .. " > /opt/app/version")
      box:write("/opt/app/unit", "unit", { mode = "0644" })
    end,
  })
  return blue_green(run, {
    service = app.name, version = args.version, image = image, front = run.cloud:address(app.name),
    health = { path = "/health/check", port = 8080, within = 20 }, drain = 5,
  })
end

return app
