---Secrets in commands, variables, files and requests, as a user writes a recipe with them.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local leaks = require "spec.support.leaks"
local local_site = require "spec.support.local_site"
local web = require "spec.support.web"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

-- Each character that a shell, systemd, a URL, JSON or YAML gives a meaning to.
local password = [[p4$S "w'o\r\\d%s `x` &+;<>|#=ü€𝄞]]
local hook = "T0Kx9/B77/s3cr3tHook"

local recipe = [=[
---Hands a password on in every way.
local cloudinit = require "kiln.cloudinit"
local crypto = require "kiln.crypto"
local http = require "kiln.http"
local json = require "kiln.json"
local secret = require "kiln.secret"
local sh = require "kiln.sh"
local app = { name = "secrets" }
app.args = { url = { "the server", required = true } }
app.secrets = { password = {}, hook = { file = "hook" } }

local SUM = "sha256sum | cut -d' ' -f1"

function app.machine(run)
  local password = run:secret "password"
  local box = run.cloud:machines {
    names = { "secrets-1" }, image = run.cloud:base("debian-13").id, size = "1gb",
    user_data = cloudinit.config {
      cloudinit.env_file("/etc/early.env", { PASSWORD = password, N = 1 }, { secrets = true }),
    },
  }[1]
  box:ready()
  local function sum(name, command, opts)
    run:note(("<%s %s>"):format(name, (box:run(command, opts).out:gsub("%s", ""))))
  end
  sum("env", "printf %s \"$P\" | " .. SUM, { env = { P = password, PORT = 8080 } })
  sum("stdin", SUM, { stdin = password })
  sum("env and stdin", "(printf %s \"$P\"; cat) | " .. SUM, {
    env = { P = secret.join("a", 1, password) }, stdin = secret.join(password, "\n", 2.5) })
  sum("command", secret.join("printf %s ", sh.quote(password), " | ", SUM))
  sum("words", secret.join(sh.join { "printf", "%s", password }, " | ", SUM))
  sum("as a user", secret.join("id -un >&2; printf %s ", sh.quote(password), " | ", SUM),
    { user = "nobody" })
  sum("shell in a shell", secret.join("sh -c ", sh.quote(secret.join("printf %s ",
    sh.quote(password))), " | ", SUM))
  box:write("/root/joined", secret.join("key=", password, "\n", 5432))
  sum("written", "cat /root/joined | " .. SUM)
  box:env_file("/etc/app.env", { PASSWORD = password, LINES = "two\nlines\t", PORT = 5432 })
  for _, name in ipairs { "app", "early" } do
    local file = ("/etc/%s.env"):format(name)
    sum(name, ("systemd-run -q --wait --pipe -p EnvironmentFile=%s %s | %s")
      :format(file, [[sh -c 'printf %s "$PASSWORD"']], SUM))
  end
  sum("lines", "systemd-run -q --wait --pipe -p EnvironmentFile=/etc/app.env "
    .. "sh -c 'printf %s \"$LINES\"' | " .. SUM)
  box:run(secret.join("printf 'the password is %s' ", sh.quote(password)))
  local key = "/etc/ssh/ssh_host_ed25519_key"
  run:note(box:run("cat " .. key).out .. box:run("base64 -w0 " .. key).out)
  local ok, err = pcall(box.run, box, secret.join("exit 3 # ", password))
  run:note(ok and "no error" or err.message)
  local count = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' >/root/argv; "
    .. "grep -c -F -f /root/pattern /root/argv; true"
  box:write("/root/pattern", password)
  local all = { env = { P = password }, stdin = password }
  sum("argv", secret.join("cat >/dev/null; : ", sh.quote(password), "; ", count), all)
  sum("control", "sh -c 'sleep 5; true' x \"$P\" & sleep 0.2; " .. count .. "; kill $!", all)
end

function app.requests(run, args)
  local password, hook = run:secret "password", run:secret "hook"
  local answer = http.post(secret.join(args.url, "hooks/", hook), {
    json = { text = password, deep = { { password, 1 } } }, query = { q = { password, "x" } },
    headers = { ["X-Token"] = password },
  })
  run:note("url " .. tostring(answer.url))
  http.post(args.url .. "fields", { fields = { password = password, n = 1 } })
  http.post(args.url .. "form", { form = { { name = "password", value = password } } })
  http.put(args.url .. "put", { body = json.encode { password } })
  http.post(args.url .. "basic", { body = "", headers = {
    Authorization = secret.join("Basic ", crypto.base64(secret.join("user:", password))) } })
  http.post(secret.join(args.url, "escaped/", http.escape(password)), { body = "" })
  local ok, err = pcall(http.post, secret.join(args.url, "missing/", hook), { json = {} })
  run:note(ok and "no error" or err.message)
  ok, err = pcall(http.get, secret.join("http://127.0.0.1:1/", hook), { attempts = 1 })
  run:note(ok and "no error" or err.message)
end

function app.conflict(run)
  local key = "-----BEGIN OPENSSH PRIVATE KEY-----\nof the recipe's own\n"
  run.cloud:machines {
    names = { "secrets-2" }, image = run.cloud:base("debian-13").id, size = "1gb",
    user_data = cloudinit.config { cloudinit.host_key(key, "ssh-ed25519 AAAA") },
  }
end

function app.remove(run)
  for _, row in ipairs(run.cloud.driver:machines()) do run.cloud:existing(row):destroy() end
end
return app
]=]

describe("a recipe with secrets", function()
  local dir, env, shown

  local function kiln(...)
    local done = assert(proc.run { argv = { exe, ... }, cwd = dir .. "/app", env = env,
      timeout = 120 })
    shown[#shown + 1] = done.out .. done.err
    return done
  end

  before_each(function()
    dir = assert(fs.temp_dir())
    assert(proc.run { argv = { "chmod", "711", dir } })
    assert(fs.mkdir(dir .. "/app"))
    assert(fs.write(dir .. "/app/app.lua", recipe))
    assert(fs.write(dir .. "/app/hook", hook .. "\n", { mode = "0600" }))
    shown = {}
    env = {
      KILN_PATH = tree, NO_COLOR = "1", PATH = os.getenv "PATH", HOME = dir,
      KILN_SECRET_PASSWORD = password, KILN_LOCAL_DIR = dir .. "/site",
      KILN_LOCAL_BASE = local_site.archives,
    }
  end)

  after_each(function() proc.run { argv = { "rm", "-rf", dir } } end)

  local function nothing_leaked(id)
    for _, words in ipairs { { "show", id }, { "show", id, "--json" }, { "log", id },
      { "log", id, "--json" }, { "runs", "--json" } } do
      assert.equal(0, kiln(table.unpack(words)).code)
    end
    local all = table.concat(shown, "\n")
    local values = { password, hook, table.unpack(leaks.keys(dir .. "/app")) }
    assert.equal(0, leaks.count(all, values), all)
    local state = leaks.contents(dir .. "/app/.kiln", { ssh = true })
    assert.is_true(#state > 10000)
    assert.equal(0, leaks.count(state, values))
  end

  local function sum(text) return require("rt.crypto").sha256(text) end

  it("reaches a machine's commands, variables, inputs and files unchanged", function()
    local missing = local_site.lacking()
    if missing then return pending(missing) end
    local done = kiln("run", "app.lua", "machine", "--url", "x", "-v")
    local removed = kiln("run", "app.lua", "remove", "--url", "x")
    local keys = leaks.keys(dir .. "/app")
    assert(require("rt.machine").network_down { dir = dir .. "/site" })
    assert.equal(0, done.code, done.out .. done.err)
    assert.equal(0, removed.code, removed.err)
    local sums = {}
    for name, value in done.out:gmatch("<([%l ]+) (%w+)>") do sums[name] = value end
    local expected = {
      env = password, stdin = password, ["env and stdin"] = "a1" .. password .. password .. "\n2.5",
      command = password, words = password, ["as a user"] = password,
      ["shell in a shell"] = password, written = "key=" .. password .. "\n5432", app = password,
      early = password, lines = "two\nlines\t",
    }
    for name, text in pairs(expected) do assert.equal(sum(text), sums[name], name) end
    assert.is_true(#keys >= 3) -- of the project; the machine's went with it
    assert.matches("\n<secret>\n", done.out, 1, true)
    assert.equal("0", sums.argv)
    assert.equal("1", sums.control)
    assert.matches("the password is <secret>", table.concat(shown), 1, true)
    assert.matches("'exit 3 # <secret>' ended with status 3", table.concat(shown), 1, true)
    nothing_leaked(done.err:match("run (%x+)"))
  end)

  it("is looked up before anything is made; all that are missing are named at once", function()
    env.KILN_SECRET_PASSWORD = nil
    assert(fs.remove(dir .. "/app/hook"))
    local done = kiln("run", "app.lua", "requests", "--url", "http://127.0.0.1:1/")
    assert.equal(64, done.code, done.out .. done.err)
    assert.matches("hook: a secret: .*hook.*\n%s+password: .*KILN_SECRET_PASSWORD", done.err)
    assert.is_nil(fs.stat(dir .. "/app/.kiln"))
    assert.equal(0, kiln("run", "app.lua", "--help").code)
    local text = recipe:gsub('password = {}, hook = { file = "hook" }',
      'password = { entries = { "machine" } }, hook = { fil = "hook" }')
    assert(fs.write(dir .. "/app/app.lua", text))
    done = kiln("run", "app.lua", "requests", "--url", "x")
    assert.matches("secrets.hook: unknown field 'fil'", done.err, 1, true)
    assert(fs.write(dir .. "/app/app.lua", (text:gsub(", hook = { fil .- }", ""))))
    done = kiln("run", "app.lua", "remove", "--url", "x") -- asks for none
    assert.equal(0, done.code, done.out .. done.err)
  end)

  it("may be another one when the run is resumed, from another folder", function()
    local asked, fails = {}, true
    local site <close> = web.start(function(request)
      asked[#asked + 1] = request
      return { status = fails and request.path == "/put" and 500 or 200, body = "{}" }
    end)
    local done = kiln("run", "app.lua", "requests", "--url", site.url, "--on-error", "keep")
    assert.equal(4, done.code, done.out .. done.err)
    local id, before = done.err:match("run (%x+)"), #asked
    fails, env.KILN_SECRET_PASSWORD = false, "another, longer " .. password
    done = assert(proc.run { argv = { exe, "-C", dir .. "/app", "resume", id },
      cwd = "/", env = env, timeout = 60 })
    assert.equal(0, done.code, done.out .. done.err)
    assert.equal("/put", asked[before + 1].path) -- and not the first ones again
    assert.is_truthy(asked[before + 1].body:find("another", 1, true))
    env.KILN_SECRET_PASSWORD = nil
    done = kiln("run", "app.lua", "requests", "--url", "x")
    assert.equal(64, done.code, done.err)
  end)

  it("stays opaque: a recipe cannot see it", function()
    assert(fs.write(dir .. "/app/app.lua", [[
      local app, secret = {}, require "kiln.secret"
      function app.deploy(run)
        local known = {}
        for name in pairs(secret) do known[#known + 1] = name end
        run:note(table.concat(known, " "))
        for _, try in ipairs {
          function(s) return s .. "x" end, function(s) return #s end, function(s) return s.text end,
          function(s) return ("%s"):format(s) end, function(s) return tostring(s) end,
        } do
          local ok, text = pcall(try, run:secret "password")
          run:note(ok and text or "refused")
        end
      end
      return app]]))
    local done = kiln("run", "app.lua")
    assert.equal("from_command from_env from_file is join redact\nrefused\nrefused\nrefused\n"
      .. "<secret>\n<secret>\n", done.out, done.err)
  end)

  it("is no private key in the message about user-data that conflicts", function()
    local missing = local_site.lacking()
    if missing then return pending(missing) end
    local done = kiln("run", "app.lua", "conflict", "--url", "x", "-v")
    assert.not_equal(0, done.code)
    assert.matches("sets ssh_keys.ed25519_private", done.err, 1, true)
    assert.equal(0, leaks.count(table.concat(shown), { "of the recipe's own" }))
    assert.same({}, fs.glob(dir .. "/app/.kiln/ssh/*") or {}) -- refused before there are keys
    kiln("run", "app.lua", "remove", "--url", "x")
    assert(require("rt.machine").network_down { dir = dir .. "/site" })
  end)

  it("reaches URLs, queries, headers and bodies of requests, and no name or message", function()
    local asked = {}
    local site <close> = web.start(function(request)
      asked[#asked + 1] = request
      if request.path:find("^/missing") then return { status = 404, body = hook .. " is gone" } end
      return { body = "{}" }
    end)
    local done = kiln("run", "app.lua", "requests", "--url", site.url)
    assert.equal(0, done.code, done.out .. done.err)
    assert.equal("/hooks/" .. hook, asked[1].path)
    assert.same({ text = password, deep = { { password, 1 } } }, json.decode(asked[1].body))
    assert.equal(password, asked[1].headers["x-token"])
    for index, form in ipairs { [2] = 3, [3] = 1, [4] = 5 } do
      assert.is_truthy(asked[index].body:find(leaks.forms(password)[form], 1, true), index)
    end
    assert.matches("url <secret>", done.out, 1, true)
    assert.matches("/missing/<secret>: answered 404: <secret> is gone", done.out, 1, true)
    assert.matches("GET http://127.0.0.1:1/<secret>", done.out .. done.err, 1, true)
    nothing_leaked(done.err:match("run (%x+)"))
  end)
end)
