---An image is baked again after every edit that its build can see, however the recipe is named, and
---the run says what changed.
local fs = require "rt.fs"
local proc = require "rt.proc"
local stranger = require "spec.support.stranger"

local recipe = [=[
local bake = require "recipes.bake"
local web = require "lib.web"
local app = { name = "app", base = "debian-13" }
app.args = {
  version = { "release", default = "v1" },
  greeting = { "what nothing uses", default = "Hello" },
}
local PORT = 8080

function app.bake(run, args)
  return bake(run, {
    name = app.name, base = app.base,
    build = function(box)
      box:run("echo port " .. PORT .. " > /srv-port")
      web.install(box)
      box:upload("conf", "/opt/conf", { exclude = { "*.tmp" } })
      box:upload("app-" .. args.version, "/opt/app")
    end,
  })
end

---Shows what is in the image.
function app.look(run, args)
  local image = app.bake(run, args)
  local box = run.cloud:machines { names = { "look" }, image = image.id }[1]
  box:ready()
  run:note((box:run "cat /srv-port /srv-web /opt/conf/a /opt/app; stat -c %a /opt/app").out)
  box:destroy()
end

return app
]=]

local library = [=[
local web = {}
local function install(box) box:run "echo nginx > /srv-web" end
function web.install(box) install(box) end
return web
]=]

describe("an image", function()
  local user

  local function baked_by(done)
    assert.equal(0, done.code, done.out .. done.err)
    local name, rest = done.err:match "image app%s+(app%-%x+)  ([^\n]*)"
    assert.is_truthy(name, done.err)
    return name, (rest:gsub("%s+[%d.]+s$", ""))
  end

  local function bake(...) return baked_by(user:kiln("run", "app.lua", "bake", ...)) end

  local function edit(file, from, to)
    local text = assert(fs.read(user.dir .. "/" .. file))
    local at, last = text:find(from, 1, true)
    user:write(file, text:sub(1, at - 1) .. to .. text:sub(last + 1))
  end

  local function finds(name, ...)
    local found, said = bake(...)
    assert.same({ name, "found, inputs unchanged" }, { found, said })
  end

  local function bakes(why, ...)
    local name, said = bake(...)
    assert.equal("baked: " .. why, said)
    finds(name, ...)
    return name
  end

  before_each(function()
    user = stranger.new()
    assert(fs.mkdir(user.dir .. "/lib"))
    assert(fs.mkdir(user.dir .. "/conf"))
    user:write("app.lua", recipe)
    user:write("lib/web.lua", library)
    user:write("conf/a", "one\n")
    user:write("app-v1", "release v1\n")
    user:write("app-v2", "release v2\n")
  end)
  after_each(function() user:close() end)

  it("is baked again after each edit of what its build does or sends", function()
    local missing = stranger.lacking()
    if missing then return pending(missing) end
    local first, said = bake()
    assert.equal("baked", said)
    finds(first)
    finds(first, "--greeting", "Hi")
    edit("app.lua", "local PORT", "-- the port of the service\nlocal PORT")
    user:write("conf/b.tmp", "stays here\n")
    finds(first)
    assert.equal(first, (baked_by(assert(proc.run { argv = { assert(fs.realpath "/proc/self/exe"),
      "run", user.dir .. "/app.lua", "bake" }, cwd = "/", env = user.env, timeout = 120 }))))
    assert.equal(first, (baked_by(assert(proc.run { argv = { assert(fs.realpath "/proc/self/exe"),
      "-C", user.dir, "run", "app.lua", "bake" }, cwd = "/", env = user.env, timeout = 120 }))))

    edit("app.lua", '"echo port "', '"echo the port "')
    bakes "`build` in app.lua changed"
    edit("app.lua", "PORT = 8080", "PORT = 8081")
    bakes "upvalue PORT changed"
    edit("lib/web.lua", "nginx", "caddy")
    bakes "`install` in lib/web.lua changed"
    user:write("conf/a", "two\n")
    bakes "file conf changed"
    assert(proc.run { argv = { "chmod", "755", user.dir .. "/app-v1" } })
    local last = bakes "file app-v1 changed"
    assert.equal(bakes("args.version changed", "--version", "v2"), (bake("--version", "v2")))
    finds(last) -- the release before is there still

    local said_there, shown = user:must("run", "app.lua", "look")
    shown = shown .. said_there
    for _, line in ipairs { "the port 8081", "caddy", "two", "release v1", "755" } do
      assert.matches(line, shown, 1, true)
    end
  end)

  it("is not baked when what its build uses cannot be compared", function()
    edit("app.lua", "local PORT = 8080", "local PORT = coroutine.create(print)")
    local done = user:kiln("run", "app.lua", "bake")
    assert.is_not.equal(0, done.code)
    assert.matches("`build` depends on upvalue PORT, which is a coroutine", done.err, 1, true)
    assert.matches('inputs = { PORT = "…" }', done.err, 1, true)
  end)

  it("is not finished by an edited recipe when a file that was sent has changed", function()
    local missing = stranger.lacking()
    if missing then return pending(missing) end
    edit("app.lua", 'box:upload("app-"', 'box:run "test -e /fixed"; box:upload("app-"')
    local done = user:kiln("run", "app.lua", "bake", "--on-error", "keep")
    assert.equal(4, done.code, done.out .. done.err)
    local id = done.err:match "^run (%x+)"
    edit("app.lua", "test -e /fixed", "true")
    user:write("conf/a", "two\n")
    local refused = user:kiln("resume", id, "--edited")
    assert.matches("the builder has another 'conf' than this folder", refused.err, 1, true)
    assert.equal(3, user:kiln("abort", id).code)
  end)

  it("is baked again when what its build asks for while it runs has changed", function()
    local missing = stranger.lacking()
    if missing then return pending(missing) end
    user:write("app.lua", [=[
local bake = require "recipes.bake"
local scope = require "kiln.scope"
local app = {}
local function image(run, name)
  return bake(run, { name = name, base = "debian-13", build = function(box)
    box:run("echo " .. (os.getenv "FLAVOUR" or "plain") .. " > /srv-" .. name)
    require("lib.late").install(box)
  end })
end

---Bakes two at the same time: one of them finds the module loaded.
function app.bake(run)
  scope.all {
    function() image(run, "app") end,
    function() image(run, "web") end,
  }
end

return app
]=])
    user:write("lib/late.lua", [=[
local late = { level = os.getenv "LEVEL" or "1" }
function late.install(box) box:run("echo " .. late.level .. " > /srv-level") end
return late
]=])
    local function both(wanted)
      local done = user:kiln("run", "app.lua", "bake")
      assert.equal(0, done.code, done.out .. done.err)
      for _, name in ipairs { "app", "web" } do
        local said = done.err:match("image " .. name .. "%s+" .. name .. "%-%x+  ([^\n]*)")
        assert.equal(wanted, said and said:gsub("%s+[%d.]+s$", ""), done.err)
      end
    end
    both "baked"
    both "found, inputs unchanged"
    edit("lib/late.lua", "/srv-level", "/srv-levels")
    both "baked: module lib/late.lua changed"
    user.env.FLAVOUR = "sweet"
    both "baked: variable FLAVOUR changed"
    user.env.LEVEL = "2"
    both "baked: variable LEVEL changed"
    both "found, inputs unchanged"
  end)
end)
