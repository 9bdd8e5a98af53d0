---A bake that is killed everywhere on local machines; its command leaves a line each time it runs.
local bake = require "recipes.bake"

local tiny = { name = "tiny" }

tiny.args = {
  version = { "what is baked", required = true },
  health_within = { "as examples/app has it", default = 2 },
}

---Bakes one image.
function tiny.deploy(run, args)
  return bake(run, {
    name = tiny.name, base = "debian-13", inputs = { args.version },
    build = function(box)
      box:upload("app.conf", "/opt/app.conf")
      box:write("/opt/version", args.version)
      box:run "echo began >>/opt/runs; sleep 0.2; echo ended >>/opt/runs"
    end,
  })
end

return tiny
