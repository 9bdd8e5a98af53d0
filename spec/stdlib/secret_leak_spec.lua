---A run with secrets in its environment, user-data, SSH and API bodies, killed and resumed: looks
---for them, in every form, in all that it leaves and shows.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local task = require "rt.task"
local timer = require "rt.timer"
local leaks = require "spec.support.leaks"
local sshd = require "spec.support.sshd"
local web = require "spec.support.web"

local exe = assert(fs.realpath("/proc/self/exe"))

local password = 'p4ss"/w&rd+<leak> ünseen'
local token = "tok-3a9f5b7c1d"

local recipe = [[
local cloudinit = require "kiln.cloudinit"
local http = require "kiln.http"
local op = require "kiln.op"
local secret = require "kiln.secret"
local sh = require "kiln.sh"
local ssh = require "kiln.ssh"
local app = { name = "app", secrets = { token = { file = "token" } } }

local function once(name, args, perform)
  return op.call { name = name, class = "once", args = args, perform = perform }
end

function app.deploy(run)
  local password, token = run:secret "password", run:secret "token"
  local data = cloudinit.config {
    cloudinit.env_file("/etc/app.env", { PASSWORD = password }, { secrets = true }),
  }
  once("create", { user_data = data }, function()
    return http.post("URLuser-data", { body = data }).body
  end)
  local echoed = once("log in", {}, function()
    local answer = http.post("URLapi", { body = password, headers = { ["X-Token"] = token } })
    return { status = answer.status, body = answer.body }
  end)
  local output = once("on the machine", {}, function()
    local session <close> = ssh.connect { host = "HOST", port = PORT, user = "USER",
      key_file = run:path "id", host_key = "HOSTKEY" }
    return session:run("cat; base64 -w0 /dev/null", { stdin = token }).out
  end)
  run:note("the machine said " .. output)
  local host <close> = ssh.connect { host = "HOST", port = PORT, user = "USER",
    key_file = run:path "id", host_key = "HOSTKEY" }
  output = output .. host:run(secret.join("cat; printf ' %s %s' ", sh.quote(password), ' "$T"'),
    { env = { T = token }, stdin = secret.join(token, 1) }).out
  output = output .. http.post(secret.join("URLhook", "/", http.escape(token)), {
    json = { deep = { { password } } }, query = { q = password },
  }).body
  once("wait to be killed", { echoed = echoed.body }, function()
    return http.get("URLwait", { timeout = 30 }).body
  end)
  once("afterwards", { again = output }, function()
    return http.post("URLafter", { body = echoed.body .. output }).body
  end)
  error({ kind = "exit", message = "failed with " .. echoed.body, output = output })
end
return app
]]

local function leaked(text) return leaks.count(text, { password, token }) end

---Collects the arguments of every process until it is told to stop.
local function watch_arguments()
  local seen, stopped = {}, false
  local watcher = task.spawn(function()
    while not stopped do
      for _, path in ipairs(fs.glob("/proc/[0-9]*/cmdline")) do
        local text = fs.read(path)
        if text then seen[text] = true end
      end
      timer.sleep(0.01)
    end
  end)
  return function()
    stopped = true
    watcher:join()
    local texts = {}
    for text in pairs(seen) do texts[#texts + 1] = text end
    return table.concat(texts, "\n"), #texts
  end
end

describe("a run with secrets, killed and resumed", function()
  it("leaves none of them in its state, output, events, arguments or a core dump", function()
    local server <close> = sshd.start()
    local dir = assert(fs.temp_dir())
    local asked, hold = {}, true
    local site = web.start(function(request)
      asked[#asked + 1] = request.path .. " " .. (request.headers["x-token"] or "") .. request.body
      while request.path == "/wait" and hold do timer.sleep(0.02) end
      return { body = request.body }
    end)
    assert(fs.write(dir .. "/token", token .. "\n", { mode = "0600" }))
    assert(fs.write(dir .. "/id", server.key, { mode = "0600" }))
    local values = { URL = site.url, HOST = server.host, PORT = tostring(server.port),
      USER = server.user, HOSTKEY = server.host_key }
    assert(fs.write(dir .. "/app.lua", (recipe:gsub('"?%u+[%l%-]*"?', function(word)
      local name, rest = word:match('^"?(%u+)([%l%-]*)"?$')
      local value = values[name]
      if not value then return nil end
      return name == "PORT" and value or ('"%s%s"'):format(value, rest)
    end))))

    local env = proc.environ()
    env.KILN_SECRET_PASSWORD = password
    local arguments = watch_arguments()
    local shown = {}
    local child = assert(proc.start { cwd = dir, env = env, argv = { "sh", "-c",
      'ulimit -c unlimited 2>/dev/null; exec "$1" run --json app.lua', "sh", exe } })
    local reader = task.spawn(function()
      for line in function() return child:read_line() end do shown[#shown + 1] = line end
    end)
    local limit = timer.now() + 30
    repeat timer.sleep(0.02) until (asked[#asked] or ""):find("^/wait") or timer.now() > limit
    assert.matches("^/wait", asked[#asked] or "", nil, false)
    local limits = assert(fs.read(("/proc/%d/limits"):format(child:pid())))
    assert.matches("Max core file size%s+0 ", limits)
    assert.equal("00000000\n", fs.read(("/proc/%d/coredump_filter"):format(child:pid())))
    local state_of_killed = leaks.contents(dir .. "/.kiln")
    child:kill "ABRT"
    local ended = child:wait()
    reader:join()
    child:close()
    assert.equal("ABRT", ended.signal, json.encode(ended) .. table.concat(shown, "\n"))
    for _, name in ipairs(fs.list(dir)) do assert.is_nil(name:find("^core"), name) end

    hold = false
    local id = assert(json.decode(shown[1]).run)
    local function kiln(...)
      local done = assert(proc.run { cwd = dir, env = env, timeout = 60, argv = { exe, ... } })
      shown[#shown + 1] = done.out .. done.err
      return done
    end
    assert.equal(1, kiln("resume", id, "--json").code)
    for _, words in ipairs { { "show", id }, { "show", id, "--json" }, { "log", id },
      { "log", id, "--json" }, { "runs", "--json" } } do
      assert.equal(0, kiln(table.unpack(words)).code)
    end
    local seen, processes = arguments()
    site:close()

    local world = table.concat(asked, "\n")
    assert.is_truthy(world:find("/after " .. password .. token, 1, true), world)
    assert.is_true(leaked(world) >= 4)
    local places = {
      state = leaks.contents(dir .. "/.kiln"), ["state when killed"] = state_of_killed,
      ["what was shown"] = table.concat(shown, "\n"), arguments = seen,
      files = leaks.contents(dir, { token = true }),
    }
    assert(fs.remove(dir, { recursive = true }))
    for name, text in pairs(places) do
      assert.is_true(#text > 500, name)
      assert.equal(0, leaked(text), name)
    end
    io.write(("\nsecrets: 0 in %d KiB of state, %d KiB shown, the arguments of %d processes\n")
      :format(#places.state // 1024, #places["what was shown"] // 1024, processes))
  end)
end)
