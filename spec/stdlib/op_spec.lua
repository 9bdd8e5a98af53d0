local recipes = require "spec.support.recipes"

---A recipe that creates one thing; `prepare` fails while the file "broken" is in the world.
local creation = recipes.prelude .. [[
---Creates a thing.
function app.deploy(run, args)
  local function note(text) fs.touch(args.world, text) end
  return op.call { name = "create", class = "adopt",
    prepare = function(token)
      note("prepare")
      if fs.read(args.world .. ".broken") ~= "" then
        error({ kind = "limit", message = "too long" })
      end
      return "rendered for " .. token
    end,
    perform = function(token, _, prepared)
      note(prepared == "rendered for " .. token and "perform" or "perform without what it sends")
      if fs.read(args.world .. ".slow") ~= "" then fs.sleep(60) end
      return "made"
    end,
    settle = function() note("settle") end,
    unmake = function() note("unmake") end,
  }
end
return app
]]

describe("an operation that prepares what it sends", function()
  local folder, world

  before_each(function()
    folder = recipes.folder()
    world = folder.dir .. "/world"
    folder:write("app.lua", creation)
  end)

  after_each(function() folder:__close() end)

  it("prepares once, before it performs", function()
    local made = folder:start("app.lua", { args = { world = world } })
    assert.equal("done", made.status)
    assert.equal("prepare\nperform\n", folder:read "world")
  end)

  it("has nothing to undo when that fails", function()
    folder:write("world.broken", "yes")
    local made = folder:start("app.lua", { args = { world = world } })
    assert.equal("limit", made.error.kind)
    assert.equal("prepare\n", folder:read "world")
    assert.equal("rolled_back", made.status)
    assert.equal("prepare\n", folder:read "world")
  end)

  local function kill_while_it_performs()
    folder:write("world.slow", "yes")
    local pipe = assert(io.popen(("sh -c 'echo $$; %s' 2>&1")
      :format(folder:spawn("app.lua", { world = world }))))
    local pid = assert(tonumber(pipe:read "l"))
    repeat require("rt.timer").sleep(0.02) until folder:read "world" == "prepare\nperform\n"
    os.execute("kill -9 " .. pid)
    pipe:close()
    folder:write("world.slow", "")
    folder:write("world", "")
    local store <close> = require("kiln.store").open(folder.dir)
    return store:runs { limit = 1 }[1].id
  end

  it("settles before it prepares again when it was killed", function()
    local id = kill_while_it_performs()
    assert.equal("done", folder:continue("resume", id).status)
    assert.equal("settle\nprepare\nperform\n", folder:read "world")
  end)

  it("is aborted without preparing", function()
    local id = kill_while_it_performs()
    folder:write("world.broken", "yes")
    assert.equal("aborted", folder:continue("abort", id).status)
    assert.equal("unmake\n", folder:read "world")
  end)
end)
