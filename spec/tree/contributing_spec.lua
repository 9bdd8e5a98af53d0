local fs = require "rt.fs"
local json = require "rt.json"
local recipes = require "spec.support.recipes"
local sim = require "providers.digitalocean.sim"
local web = require "spec.support.web"

local text = assert(fs.read("CONTRIBUTING.md"))

---The queue of the example: jobs by name; the answer to the first POST never comes.
local function queue(jobs, lost)
  return function(request)
    if request.method == "POST" then
      local job = json.decode(request.body)
      table.insert(jobs, job)
      if #jobs == 1 then return lost() end
    end
    for _, job in ipairs(jobs) do
      if request.target == "/jobs/" .. job.name or request.method == "POST" then
        return { body = job.text }
      end
    end
    return { status = 404 }
  end
end

describe("CONTRIBUTING.md", function()
  it("shows an operation that is done once, whatever dies meanwhile", function()
    local example = assert(text:match("```lua\n(%-%-%-Puts a job.-)```"))
    local folder <close> = recipes.folder()
    local jobs, handle = {}, nil
    local server = web.start(queue(jobs, function() handle.stop() end))
    folder:write("app.lua", ([[
      local op, http = require "kiln.op", require "kiln.http"
      %s
      return { name = "app", deploy = function() return enqueue(%q, "mail") end }
    ]]):format(example, server.url))
    local first = folder:start("app.lua", { started = function(made) handle = made end })
    local done = folder:continue("resume", first.run)
    server:close()
    assert.equal("stopped", first.status, first.error and first.error.message)
    assert.equal("mail", done.result, done.error and done.error.message)
    assert.equal(1, #jobs)
  end)

  it("names the classes that there are", function()
    local source = assert(fs.read("stdlib/kiln/op.lua"))
    local listed = text:match("| class | an interrupted one |(.-)\n\n")
    local count = 0
    for class in source:match("local classes = (%b{})"):gmatch("(%w+) = true") do
      assert.is_truthy(listed:find("`" .. class .. "`", 1, true), class)
      count = count + 1
    end
    assert.is_true(count > 0)
  end)

  it("shows a fault that the simulator takes, and a scenario as it stands", function()
    local faults = json.decode(assert(text:match("`(%[{ \"kind\".-%])`")))
    assert.equal(1, #sim.faults.new(faults).placed)
    local scenario = assert(text:match("`(third = %b{})`"))
    assert.is_truthy(assert(fs.read("spec/matrix/cases.lua")):find(scenario, 1, true))
  end)
end)
