---Every run can be ended: whatever fails before its first request, an abort leaves nothing, and a
---resume goes on when the cause is gone.
local fs = require "rt.fs"
local proc = require "rt.proc"
local rt_http = require "rt.http"
local stranger = require "spec.support.stranger"

describe("a run of the examples that fails at any operation before its first request", function()
  it("is ended by abort with nothing left, and by resume", function()
    local done = assert(proc.run {
      argv = { "/usr/bin/env", "TMPDIR=/dev/shm", assert(fs.realpath("/proc/self/exe")), "lua",
        "spec/matrix/main.lua", "ended", "short", "307" },
      timeout = 600,
    })
    assert.equal(0, done.code, done.out .. done.err)
    local counts = done.out:match "runs that fail before a request: [^\n]*; 0 failed"
    assert.is_truthy(counts, done.out)
    io.stdout:write("\n", counts, "\n")
  end)
end)

local recipe = [[
local app = { name = "app" }

local function tag(run, name)
  run.cloud:api("POST", "/tags", { name = name })
end

---Makes two tags, which it knows how to remove, and fails.
function app.deploy(run)
  run:transaction(function(undo)
    tag(run, "one")
    tag(run, "two")
    undo("tags", function()
      run.cloud:api("DELETE", "/tags/one")
      run.cloud:api("DELETE", "/tags/two")
    end)
    run.cloud:address()
    run.cloud:api("GET", "/nothing")
  end)
end

return app
]]

describe("an undo of several requests that was refused in the middle", function()
  local user, faults

  before_each(function()
    faults = assert(fs.temp_dir())
    assert(fs.write(faults .. "/faults.json", [=[
      [{ "kind": "status", "status": 403, "method": "DELETE", "path": "/v2/tags/one",
         "body": "{\"id\":\"forbidden\",\"message\":\"not now\"}" }] ]=]))
    user = stranger.new { cloud = "digitalocean", machines = "none",
      faults = faults .. "/faults.json" }
    user:write("app.lua", recipe)
  end)

  after_each(function()
    user:close()
    assert(fs.remove(faults, { recursive = true }))
  end)

  for how, code in pairs { resume = 3, abort = 0 } do
    it("goes on there: " .. how, function()
      local done = user:kiln("run", "app.lua")
      assert.equal(4, done.code, done.err)
      assert.matches("undoing 'tags' failed too: DigitalOcean: DELETE /v2/tags/one: 403 not now",
        done.err, 1, true)
      done = user:kiln(how, (done.err:match("kiln resume (%x+)")))
      assert.equal(code, done.code, done.err)
      local names = {}
      for _, one in ipairs(user.sim:call("GET", "/v2/tags").tags) do
        if not one.name:find "^kiln%-" then names[#names + 1] = one.name end
      end
      rt_http.forget()
      assert.same({}, names)
    end)
  end
end)
