local task = require "rt.task"
local timer = require "rt.timer"
local recipes = require "spec.support.recipes"
local web = require "spec.support.web"

local recipe = recipes.prelude .. [[
local http = require "kiln.http"
local probe = require "kiln.probe"
app.args.url = { "a server", required = true }

local function pause(args)
  return op.call { name = "pause", class = "idempotent", perform = function()
    fs.touch(args.world, "paused")
    if args.wait > 0 then fs.sleep(args.wait) end
    return true
  end }
end

---Asks, tells, waits.
function app.deploy(_, args)
  local first = http.get(args.url .. "count"):json().count
  local told = http.post(args.url .. "tell", { json = { first = first } }).status
  local seen = probe.http { url = args.url .. "health", successes = 1 }.attempts
  pause(args)
  return { first, told, seen, http.get(args.url .. "count"):json().count }
end

---Tells, and gets no answer in time.
function app.tell(_, args)
  return http.post(args.url .. "slow", { json = {}, timeout = 60 }).status
end

---Tells; the answer is whatever the server thinks of.
function app.report(_, args)
  return http.post(args.url .. "report", { json = {}, timeout = 2 }).status
end
return app
]]

describe("kiln.http in a recipe", function()
  local released, ended

  local function serve()
    released, ended = false, false
    return web.start(function(request, count)
      if request.path == "/slow" then
        repeat timer.sleep(0.02) until released
        ended = true
      end
      return { status = 200, body = ('{"count":%d}'):format(count) }
    end)
  end

  local function stopped_at(folder, args, entry, ready)
    return folder:start("app.lua", { args = args, entry = entry, started = function(handle)
      task.spawn(function()
        repeat timer.sleep(0.01) until ready()
        handle.stop()
      end)
    end })
  end

  it("is an operation: a resumed run sends nothing again", function()
    local server <close> = serve()
    local folder <close> = recipes.folder()
    folder:write("app.lua", recipe)
    local args = { world = folder.dir .. "/world", url = server.url, wait = 60 }
    local outcome = stopped_at(folder, args, "deploy", function()
      return folder:read("world") ~= ""
    end)
    assert.equal("stopped", outcome.status, outcome.error and outcome.error.message)
    assert.equal(3, #server.seen)
    local asked = {}
    local resumed = folder:continue("resume", outcome.run, {
      started = function(handle)
        task.spawn(function()
          repeat timer.sleep(0.01) until select(2, folder:read("world"):gsub("paused", "")) == 2
          for index, request in ipairs(server.seen) do asked[index] = request.path end
          handle.stop()
        end)
      end,
    })
    assert.equal("stopped", resumed.status, resumed.error and resumed.error.message)
    assert.same({ "/count", "/tell", "/health" }, asked)
  end)

  it("stops with a question when a POST was cut off", function()
    local server <close> = serve()
    local folder <close> = recipes.folder()
    folder:write("app.lua", recipe)
    local args = { world = folder.dir .. "/world", url = server.url }
    local outcome = stopped_at(folder, args, "tell", function() return #server.seen == 1 end)
    assert.equal("stopped", outcome.status, outcome.error and outcome.error.message)
    local resumed = folder:continue("resume", outcome.run)
    assert.equal("failed", resumed.status)
    assert.equal("in_doubt", resumed.error.kind)
    assert.matches("POST http://127.0.0.1:%d+/slow was cut off", resumed.error.message)
    assert.equal(1, #server.seen)
    released = true
    repeat timer.sleep(0.05) until ended
  end)

  local function report(answer)
    local server <close> = web.start(function(_, count) return answer(count) end)
    local folder <close> = recipes.folder()
    folder:write("app.lua", recipe)
    local kept = folder:start("app.lua", { entry = "report", on_error = "keep",
      args = { world = folder.dir .. "/world", url = server.url } })
    assert.equal("kept", kept.status, kept.error and kept.error.message)
    return kept, folder:continue("resume", kept.run), #server.seen
  end

  it("sends a POST again that was refused, when the run was kept and is resumed", function()
    local kept, resumed, sent = report(function(count)
      return { status = count == 1 and 500 or 200, body = "{}" }
    end)
    assert.matches("/report: answered 500", kept.error.message)
    assert.equal("done", resumed.status, resumed.error and resumed.error.message)
    assert.equal(2, sent)
  end)

  it("does not send a POST again that got no answer, though the run was kept", function()
    local kept, resumed, sent = report(function()
      timer.sleep(3)
      return { status = 200, body = "{}" }
    end)
    assert.equal("timeout", kept.error.kind)
    assert.equal("in_doubt", resumed.error.kind)
    assert.matches("/report was cut off", resumed.error.message)
    assert.equal(1, sent)
  end)
end)
