local fs = require "rt.fs"
local proc = require "rt.proc"
local identity = require "spec.support.identity"

local main = [==[
local nginx = require "lib.nginx"
local shapes = require "lib.shapes"
local sh = require "kiln.sh"
local PORT, RATIO, DEBUG = 8080, 1.0, false
local packages = { "nginx", "curl", deep = { more = { "jq" } } }
local Box = {}
Box.__index = Box
Box.prefix = "/opt"
function Box:path(name) return self.prefix .. "/" .. name end
local box_of = setmetatable({ name = "site" }, Box)
local function touch(at) return function(box) box:run("touch " .. at) end end
local first, second = touch "/a", touch "/b"
function shared(box) box:run "echo shared" end
local pair = { function(box) box:run "one" end, function(box) box:run "two" end }
local counter = 0
local function count() counter = counter + 1; return counter end

local app = { name = "app", domain = "example.org" }
app.args = { version = { "what" }, greeting = { "what" } }
function app.spec(run, args)
  return { name = app.name, base = "debian-13", size = "small", inputs = { args.version },
    build = function(box)
      box:run("install " .. table.concat(packages, " "), { env = { MODE = "full" } })
      box:run("listen " .. PORT .. RATIO .. tostring(DEBUG) .. count())
      nginx.install(box, sh.quote(app.domain))
      first(box); second(box); shared(box); pair[1](box)
      box:write(box_of:path "conf", args.greeting)
      shapes.draw(box)
    end }
end
return app
]==]

local nginx = [==[
local tls = require "lib.tls"
local nginx = {}
local VERSION = "1.22"
local function helper(box) box:run("nginx " .. VERSION) end
function nginx.install(box, domain)
  helper(box)
  tls.enable(box, domain)
end
function nginx.unused(box) box:run "unused" end
return nginx
]==]

local tls = [==[
local tls = { options = { protocols = "TLSv1.3", stapling = true } }
function tls.enable(box, domain)
  for name, value in pairs(tls.options) do box:run(name .. tostring(value) .. domain) end
end
return tls
]==]

local shapes = [==[
local shapes = {}
local self = { shapes = shapes, label = "round" }
shapes.self = self -- a circle
function shapes.draw(box) box:run(self.label .. self.shapes.self.label) end
return shapes
]==]

local function files(edits)
  local all = { ["app.lua"] = main, ["lib/nginx.lua"] = nginx, ["lib/tls.lua"] = tls,
    ["lib/shapes.lua"] = shapes }
  for name, edit in pairs(edits or {}) do
    local from, to = edit[1], edit[2]
    local at, last = all[name]:find(from, 1, true)
    assert(at, "the spec's own edit does not apply: " .. from)
    all[name] = all[name]:sub(1, at - 1) .. to .. all[name]:sub(last + 1)
  end
  return all
end

local args = { version = "v1", greeting = "Hello" }

local function of(edits, opts)
  opts = opts or {}
  opts.args = opts.args or args
  return identity.of(files(edits), opts)
end

---What changed between two identities, by name.
local function changed(old, new)
  local names = {}
  for name, digest in pairs(new.parts) do
    if old.parts[name] ~= digest then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

---Each is an edit that can change what the build does.
local edits = {
  { "app.lua", '"install "', '"add "' },
  { "app.lua", '{ env = { MODE = "full" } }', '{ env = { MODE = "lean" } }' },
  { "app.lua", '{ env = { MODE = "full" } }', '{ env = { LEVEL = "full" } }' },
  { "app.lua", "PORT, RATIO, DEBUG = 8080", "PORT, RATIO, DEBUG = 8081" },
  { "app.lua", "8080, 1.0", "8080, 1" },
  { "app.lua", "8080, 1.0", "8080, -1.0" },
  { "app.lua", "1.0, false", "1.0, nil" },
  { "app.lua", '"curl"', '"wget"' },
  { "app.lua", '{ "nginx", "curl"', '{ "curl", "nginx"' },
  { "app.lua", '{ "jq" }', '{ "jq", "yq" }' },
  { "app.lua", "deep =", "deeper =" },
  { "app.lua", 'Box.prefix = "/opt"', 'Box.prefix = "/srv"' },
  { "app.lua", 'self.prefix .. "/"', 'self.prefix .. "//"' },
  { "app.lua", "Box.__index = Box", "Box.__index = function(_, key) return Box[key] end" },
  { "app.lua", '"site"', '"page"' },
  { "app.lua", 'touch "/a"', 'touch "/A"' },
  { "app.lua", 'touch "/b"', 'touch "/B"' },
  { "app.lua", 'touch "/a", touch "/b"', 'touch "/b", touch "/a"' },
  { "app.lua", '"touch "', '"rm "' },
  { "app.lua", '"echo shared"', '"echo common"' },
  { "app.lua", '"one"', '"uno"' },
  { "app.lua", "pair[1]", "pair[2]" },
  { "app.lua", '{ function(box) box:run "one" end, function(box) box:run "two" end }',
    '{ function(box) box:run "two" end, function(box) box:run "one" end }' },
  { "app.lua", "counter = 0", "counter = 1" },
  { "app.lua", "counter + 1", "counter + 2" },
  { "app.lua", '"example.org"', '"example.com"' },
  { "app.lua", "sh.quote(app.domain)", "sh.join { app.domain }" },
  { "app.lua", "first(box); second(box)", "second(box); first(box)" },
  { "app.lua", 'size = "small"', 'size = "large"' },
  { "app.lua", "inputs = { args.version }", "inputs = { args.version, 1 }" },
  { "app.lua", "inputs = { args.version }", "inputs = { args.version, 1.0 }" },
  { "app.lua", "inputs = { args.version }", 'inputs = { args.version, "1" }' },
  { "app.lua", "inputs = { args.version }", "inputs = { version = args.version }" },
  { "lib/nginx.lua", '"1.22"', '"1.24"' },
  { "lib/nginx.lua", '"nginx "', '"openresty "' },
  { "lib/nginx.lua", "  helper(box)\n", "" },
  { "lib/tls.lua", '"TLSv1.3"', '"TLSv1.2"' },
  { "lib/tls.lua", "stapling = true", "stapling = false" },
  { "lib/tls.lua", "name .. tostring", "name .. ' ' .. tostring" },
  { "lib/shapes.lua", '"round"', '"square"' },
}

---None of these can change it.
local neutral = {
  { "app.lua", "local PORT", "\n-- a comment\n\nlocal PORT" },
  { "app.lua", "    build = function(box)\n", "    build = function(box) -- more\n\n\n" },
  { "app.lua", "local function count()", "--[[ long\n]] local   function count()" },
  { "app.lua", "function app.spec", "function app.other() return 1 end\nfunction app.spec" },
  { "app.lua", "local counter = 0", "local unused = 7\nlocal counter = 0" },
  { "lib/nginx.lua", '"unused"', '"still unused"' },
  { "lib/nginx.lua", "local nginx", "---Documented.\nlocal nginx" },
  { "lib/tls.lua", 'protocols = "TLSv1.3", stapling = true',
    'stapling = true, protocols = "TLSv1.3"' },
}

describe("an image's identity", function()
  it("changes with every edit that can change what its build does", function()
    local before = of().digest
    for _, edit in ipairs(edits) do
      assert.is_not.equal(before, of({ [edit[1]] = { edit[2], edit[3] } }).digest,
        ("%s: %s → %s"):format(edit[1], edit[2], edit[3]))
    end
  end)

  it("is the same after edits that cannot", function()
    local before = of().digest
    for _, edit in ipairs(neutral) do
      assert.equal(before, of({ [edit[1]] = { edit[2], edit[3] } }).digest, edit[3])
    end
  end)

  it("has of a run and its arguments what the build uses", function()
    local before = of()
    assert.equal(before.digest, of(nil, { args = { version = "v1", greeting = "Hello", other = 1 },
      run = { id = "ffff0000", env = "staging" } }).digest)
    assert.same({ "args.greeting" },
      changed(before, of(nil, { args = { version = "v1", greeting = "Hi" } })))
    assert.same({ "input 1" },
      changed(before, of(nil, { args = { version = "v2", greeting = "Hello" } })))
    local with_env = { ["app.lua"] = { 'box:run("listen "', 'box:run(run.env .. "listen "' } }
    assert.same({ "run.env" }, changed(of(with_env), of(with_env, { run = { env = "staging" } })))
    local handed_on = { ["app.lua"] = { "nginx.install(box,", "nginx.install(run, box," } }
    assert.is_not.equal(of(handed_on).digest,
      of(handed_on, { args = { version = "v1", greeting = "Hello", other = 1 } }).digest)
  end)

  it("names what changed", function()
    local before = of()
    local function says(wanted, file, from, to)
      assert.same(wanted, changed(before, of({ [file] = { from, to } })))
    end
    says({ "`helper` in lib/nginx.lua" }, "lib/nginx.lua", '"nginx "', '"openresty "')
    says({ "upvalue PORT" }, "app.lua", "8080", "8081")
    says({ "upvalue packages" }, "app.lua", '"curl"', '"wget"')
    says({ "upvalue packages.deep.more" }, "app.lua", '"jq"', '"yq"')
    says({ "global shared" }, "app.lua",
      'function shared(box) box:run "echo shared" end', "shared = false")
    says({ "app.domain" }, "app.lua", "example.org", "example.com")
    says({ "size" }, "app.lua", '"small"', '"large"')
    says({ "`build` in app.lua" }, "app.lua", '"install "', '"add "')
  end)

  it("is that of the same text in another folder, and found through any global", function()
    assert.equal(of().digest, of().digest)
    for _, reach in ipairs { "_G.hidden", "load 'return hidden' ()", "_ENV['hid' .. 'den']" } do
      local function with(value)
        return identity.of { ["app.lua"] = ([[
          hidden = %q
          return { spec = function() return { name = "app", base = "debian-13",
            build = function(box) box:run(%s) end } end }]]):format(value, reach) }.digest
      end
      assert.is_not.equal(with "one", with "two", reach)
      assert.equal(with "one", with "one", reach)
    end
    local function lazily(text)
      return identity.of { ["app.lua"] = [[
        require "late"
        return { spec = function() return { name = "app", base = "debian-13",
          build = function(box) require("la" .. "te")(box) end } end }]],
        ["late.lua"] = text }.digest
    end
    assert.is_not.equal(lazily "return function(box) box:run '1' end",
      lazily "return function(box) box:run '2' end")
  end)

  it("has what a module holds that the build requires by itself", function()
    local function with(port)
      return identity.of({ ["app.lua"] = [[
        return { spec = function(_, args)
          require("lib.web").settings.port = args.port
          return { name = "app", base = "debian-13",
            build = function(box) require("lib.web").listen(box) end } end }]],
        ["lib/web.lua"] = [[
          local web = { settings = {}, bake = require "recipes.bake" }
          function web.listen(box) box:run("listen " .. web.settings.port) end
          return web]] }, { args = { port = port } })
    end
    assert.same({ "module lib/web.lua.settings" }, changed(with(80), with(81)))
    assert.equal(with(80).digest, with(80).digest)
  end)
end)

---Builds a recipe of functions that call each other through every kind of reference, with constants
---in each; gives its files with one of the constants changed.
local function generated(seed, changed_at)
  local state, constants = seed, 0
  local function random(n)
    state = (state * 1103515245 + 12345) % 2147483648
    return state // 65536 % n + 1
  end
  local function constant()
    constants = constants + 1
    local value = random(1000)
    return constants == changed_at and value + 5000 or value
  end
  local lines, names = {}, { "box.run" }
  local function add(text) lines[#lines + 1] = text end
  local kinds = {
    function(name, callee)
      add(("local %s_k = %d"):format(name, constant()))
      add(("local function %s(box) %s(box, %s_k, %d) end"):format(name, callee, name, constant()))
    end,
    function(name, callee)
      add(("local %s_t = { list = { %d, { %d } }, [%d] = %q }"):format(name, constant(),
        constant(), random(9), "v" .. constant()))
      add(("%s_t.self = %s_t"):format(name, name))
      add(("local function %s(box) for k, v in pairs(%s_t) do %s(box, k, v) end end")
        :format(name, name, callee))
    end,
    function(name, callee)
      add(("local function %s_f(k) return function(box) %s(box, k) end end"):format(name, callee))
      add(("local %s, %s_other = %s_f(%d), %s_f(%d)"):format(name, name, name, constant(), name,
        random(9)))
    end,
    function(name, callee)
      add(("local %s_c = { base = %d }; %s_c.__index = %s_c"):format(name, constant(), name, name))
      add(("function %s_c:go(box) %s(box, self.base, self.own) end"):format(name, callee))
      add(("local %s_o = setmetatable({ own = %d }, %s_c)"):format(name, constant(), name))
      add(("local function %s(box) %s_o:go(box) end"):format(name, name))
    end,
    function(name, callee)
      add(("function %s(box) %s(box, %d) end"):format(name, callee, constant()))
    end,
    function(name, callee)
      add(("local %s_m = {}; function %s_m.go(box) %s(box, %d, { %d.5 }) end"):format(name, name,
        callee, constant(), constant()))
      add(("local function %s(box) local m = %s_m; return m['g' .. 'o'](box) end")
        :format(name, name))
    end,
  }
  for index = 1, 3 + random(6) do
    kinds[random(#kinds)]("f" .. index, names[#names])
    names[#names + 1] = "f" .. index
  end
  local text = table.concat(lines, "\n")
  return { ["app.lua"] = text .. ([[

    return { spec = function() return { name = "app", base = "debian-13",
      build = function(box) %s(box) end } end }]]):format(names[#names]) }, constants
end

describe("the identity of generated recipes", function()
  it("changes with each of their constants", function()
    local compared = 0
    for seed = 1, 40 do
      local files_of, constants = generated(seed)
      local before = identity.of(files_of).digest
      assert.equal(before, identity.of((generated(seed))).digest)
      for at = 1, constants do
        local now = identity.of((generated(seed, at))).digest
        assert.is_not.equal(before, now, ("seed %d, constant %d:\n%s"):format(seed, at,
          generated(seed, at)["app.lua"]))
        compared = compared + 1
      end
    end
    io.stdout:write(("\n%d edits of 40 generated recipes\n"):format(compared))
    assert.is_true(compared > 300)
  end)
end)

describe("a value that cannot be compared", function()
  local function with(value, inputs)
    return identity.of { ["app.lua"] = ([[
      local crypto, token = require "kiln.crypto", nil
      token = %s
      return { spec = function() return { name = "app", base = "debian-13", inputs = %s,
        build = function(box) box:run("x", { env = { T = token } }) end } end }]])
      :format(value, inputs or "{}") }
  end

  it("is refused, with what to write instead", function()
    for value, what in pairs {
      ["coroutine.create(print)"] = "a coroutine", ["coroutine.wrap(print)"] = "a function of C's",
      ['require("kiln.secret").from_env "HOME"'] = "a secret",
      ["{ inner = coroutine.create(print) }"] = "a coroutine",
    } do
      local ok, err = pcall(with, value)
      assert.is_false(ok, value)
      assert.equal("usage", err.kind)
      assert.matches("bake app: `build` depends on upvalue token", err.message, 1, true)
      assert.matches("which is " .. what, err.message, 1, true)
      assert.matches("inputs = { %w+ = \"…\" }", err.message)
    end
  end)

  it("is covered by an input of its name, which counts", function()
    local one = with("coroutine.create(print)", '{ token = "1" }')
    local two = with("coroutine.create(print)", '{ token = "2" }')
    assert.is_not.equal(one.digest, two.digest)
    assert.equal(one.digest, with("coroutine.create(tostring)", '{ token = "1" }').digest)
  end)

  it("does not stand in the way of kiln's own", function()
    for _, value in ipairs { 'require("kiln.sh").quote', 'require "kiln.http"', "string.format",
      'require("kiln.http").get', 'require "kiln.cloudinit"', "print", "require" } do
      assert.equal(64, #with(value).digest, value)
    end
  end)

  it("has the same name in every process, in whatever order Lua's tables are walked", function()
    local dir = assert(fs.temp_dir())
    assert(fs.write(dir .. "/names.lua", [[
      local known = require "kiln.image.known"
      require "kiln.run"
      local names = known.of { faces = {}, standard = {}, chunks = {} }.names
      local list = {}
      for _, name in next, names do list[#list + 1] = name end
      table.sort(list)
      print(names[_G], names[pairs], names[string.format], require("kiln.crypto").sha256(
        table.concat(list, "\n")))]]))
    local first
    for _ = 1, 8 do
      local done = assert(proc.run { argv = { assert(fs.realpath "/proc/self/exe"), "lua",
        dir .. "/names.lua" }, timeout = 60 })
      assert.equal(0, done.code, done.err)
      first = first or done.out
      assert.equal(first, done.out)
    end
    assert.matches("^_G\t_G%.pairs\t_G%.string%.format\t%x+\n$", first)
    assert(fs.remove(dir, { recursive = true }))
  end)

  it("counts in kiln's own modules when a recipe put it there", function()
    local function patched(text)
      return identity.of { ["app.lua"] = ([[
        string.trim = function() return %q end
        return { spec = function() return { name = "app", base = "debian-13",
          build = function(box) box:run(string.trim()) end } end }]]):format(text) }.digest
    end
    assert.is_not.equal(patched "a", patched "b")
  end)
end)
