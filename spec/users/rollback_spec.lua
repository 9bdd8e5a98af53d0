---Going back to a release whose answers say no version.
local proc = require "rt.proc"
local local_project = require "spec.support.local_project"
local local_site = require "spec.support.local_site"

local recipe = [[
local blue_green = require "recipes.blue_green"
local cloudinit = require "kiln.cloudinit"
local app = { name = "web" }
app.args = { text = { "what the page says", required = true } }

function app.deploy(run, args)
  return blue_green(run, {
    image = run.cloud:base "debian-13",
    user_data = cloudinit.config {
      cloudinit.write_file("/srv/index.html", args.text),
      cloudinit.run_command "systemd-run -p WorkingDirectory=/srv python3 -m http.server 8080",
    },
    health = { path = "/index.html", port = 8080 },
  })
end
return app
]]

describe("a release that was deployed without a version", function()
  local missing = local_site.lacking()
  local project

  setup(function()
    project = not missing and local_project.make("rollback", { ["web.lua"] = recipe })
  end)
  teardown(function() if project then project:close() end end)

  it("serves again after a rollback, as often as one likes", function()
    if missing then return pending(missing) end
    for _, text in ipairs { "one", "two" } do
      local done = project:kiln("run", "web.lua", "--text", text)
      assert.equal(0, done.code, done.err)
    end
    local host = project:kiln("status").out:match("serving +(%S+)")
    local function says()
      return proc.run { argv = { "curl", "-s", ("http://%s:8080/index.html"):format(host) } }.out
    end
    assert.equal("two", says())
    for _, text in ipairs { "one", "two" } do
      local done = project:kiln("rollback", "web")
      assert.equal(0, done.code, done.err)
      assert.equal(text, says())
    end
  end)
end)
