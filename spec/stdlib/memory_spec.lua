---Runs in which memory or descriptors end.
local fs = require "rt.fs"
local memory = require "spec.support.memory_faults"
local proc = require "rt.proc"
local recipes = require "spec.support.recipes"
local web = require "spec.support.web"

local exe = assert(fs.realpath("/proc/self/exe"))

describe("a run", function()
  it("ends cleanly whichever allocation is the first to fail (a sample; target faults-memory runs "
    .. "them all)", function()
    io.write("\n", memory.run(331), "\n")
  end)

  it("says so when there are no descriptors left, and can be resumed with more", function()
    local server = web.start(function() return { body = "x" } end)
    local folder <close> = recipes.folder()
    folder:write("app.lua", ([[
      local op = require "kiln.op"
      local scope = require "kiln.scope"
      local http = require "kiln.http"
      local app = { name = "app" }
      function app.deploy()
        return #scope.all({ 1, 2, 3, 4 }, function(index)
          return op.call { name = "ask " .. index, class = "read",
            perform = function() return http.get(%q .. index, { timeout = 20 }).body end }
        end)
      end
      return app]]):format(server.url))
    local seen = {}
    for limit = 4, 34, 3 do
      local done = assert(proc.run { timeout = 60, argv = { "sh", "-c",
        'ulimit -n "$3"; exec "$1" run "$2"', "sh", exe, folder.dir .. "/app.lua",
        tostring(limit) } })
      seen[done.code or "signal"] = true
      if done.code ~= 0 then
        assert.is_truthy(done.err:find("open files", 1, true)
          or done.err:find("out of memory", 1, true), limit .. ": " .. done.err)
      end
    end
    local again = assert(proc.run { argv = { exe, "run", folder.dir .. "/app.lua" } })
    server:close()
    assert.equal(0, again.code, again.err)
    assert.same({ [0] = true, [1] = true }, seen)
  end)
end)
