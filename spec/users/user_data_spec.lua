---User-data of every kind on real local machines: cloud-init itself says whether it runs.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local local_site = require "spec.support.local_site"
local user_data = require "kiln.user_data"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

local recipe = [=[
---Boots a machine with each kind of user-data.
local bake = require "recipes.bake"
local cloudinit = require "kiln.cloudinit"
local crypto = require "kiln.crypto"
local json = require "kiln.json"
local scope = require "kiln.scope"
local app = { name = "kinds" }
app.args = { ascii = { "a gzip'd script, in base64" }, gzip = { "one that is not ASCII" },
  packed = { "a gzip'd MIME document" } }

local script = "#!/bin/sh\necho 'é ran' >> /root/proof\n"
local config = "#cloud-config\nruncmd:\n- echo 'é ran' >> /root/proof\n"

local kinds = {
  script = script,
  space = "\n  " .. script:gsub("\n", "\r\n"),
  config = config,
  keys = "#cloud-config\nssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDB2qbEvXjFhsx"
    .. "yZ0rQ3MoFYPmVXUgFgE3z2WqVHtmWe theirs]\nssh_keys: {}\nwrite_files:\n"
    .. "- &a {path: /root/second, permissions: '0600', content: x}\n"
    .. "- <<: *a\n  path: /root/proof\n  content: |\n    é ran\n",
  jinja = "## template: jinja\n#cloud-config\nruncmd:\n"
    .. "- echo '{{ \"é\" }} ran' >> /root/proof # {{ v1.local_hostname }}\n",
  boothook = "#cloud-boothook\n" .. script,
  include = "#include\nfile:///srv/part\n",
  archive = "#cloud-config-archive\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n"
    .. "    echo 'é ran' >> /root/proof\n- |\n  #cloud-config\n  runcmd: [touch /root/second]\n",
  handler = "#part-handler\ndef list_types():\n  return ['text/x-kiln']\n"
    .. "def handle_part(data, ctype, filename, payload):\n"
    .. "  if ctype == '__begin__': open('/root/proof', 'ab').write('é ran\\n'.encode())\n",
  parts = cloudinit.multipart {
    { type = "x-shellscript", content = script },
    { type = "x-shellscript", content = "#!/bin/sh\ntouch /root/second\n" },
    { type = "cloud-config", content = cloudinit.config {
      cloudinit.run_command "touch /root/third" } },
    { type = "cloud-boothook", content = "#cloud-boothook\n#!/bin/sh\ntouch /root/fourth\n",
      filename = "hook.sh" },
    { type = "x-shellscript-per-boot", content = "#!/bin/sh\ntouch /root/fifth\n" },
    { type = "x-include-url", content = "#include\nfile:///srv/part\n" },
  },
  mail = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
    .. "Content-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\n"
    .. crypto.base64(script) .. "\n--b\nContent-Type: text/plain\n\n#!/bin/sh\n"
    .. "touch /root/second\n--b--\n",
}

local function machine(run, name, image, text)
  local box = run.cloud:machines { names = { "kinds-" .. name }, image = image.id, size = "1gb",
    user_data = text }[1]
  box:ready()
  return box
end

---Boots them all.
function app.boot(run, args)
  kinds.ascii, kinds.gzip = crypto.unbase64(args.ascii), crypto.unbase64(args.gzip)
  kinds.packed = crypto.unbase64(args.packed)
  local image = bake(run, { name = "kinds", base = "debian-13", build = function(box)
    box:write("/srv/part", script)
  end })
  local names = {}
  for name in pairs(kinds) do names[#names + 1] = name end
  local said = scope.all(names, function(name)
    local box = machine(run, name, image, kinds[name])
    local proof = box:run "cat /root/proof; ls /root; cloud-init status --long; true"
    return { name = name, out = proof.out }
  end)
  run:note(json.encode(said))
end

local rejected = {
  typo = "#cloud-config\nrun_cmd: [touch /root/never]\n",
  schema = "#cloud-config\nwrite_files:\n- path: /root/x\n  permissions: {}\n",
  command = cloudinit.config { { runcmd = { "echo so far", "false", "touch /root/never" } } },
  script = "#!/bin/sh\necho cannot go on >&2\nexit 7\n",
  yaml = "#include\nfile:///etc/hostname\n",
}

---Boots machines whose user-data goes wrong.
function app.wrong(run)
  local base, names = run.cloud:base "debian-13", {}
  for name in pairs(rejected) do names[#names + 1] = name end
  local said = scope.all(names, function(name)
    local ok, err = pcall(machine, run, "wrong-" .. name, base, rejected[name])
    return { name = name, ok = ok, message = err.message, output = err.output, kind = err.kind }
  end)
  run:note(json.encode(said))
end

---Boots some of them and takes them as they are.
function app.allowed(run)
  local base = run.cloud:base "debian-13"
  local function ready(name, allowed)
    local box = run.cloud:machines { names = { "kinds-allowed-" .. name .. allowed },
      image = base.id, size = "1gb", user_data = rejected[name] }[1]
    return pcall(box.ready, box, { cloud_init = allowed })
  end
  run:note(json.encode(scope.all {
    function() return (ready("typo", "degraded")) end,
    function() return (ready("script", "degraded")) end,
    function() return (ready("script", "error")) end,
  }))
end

---Asks again whether a machine is ready when cloud-init's last stage failed, when it is switched
---off, and when it is not there.
function app.states(run)
  local box = machine(run, "states", run.cloud:base "debian-13")
  local said = {}
  for index, change in ipairs {
    "rm /run/cloud-init/result.json; cd /etc/systemd/system; "
      .. "printf '[Service]\nType=oneshot\nExecStart=false\n' > cloud-final.service; "
      .. "systemctl daemon-reload; systemctl restart cloud-final; true",
    "touch /etc/cloud/cloud-init.disabled",
    "rm /usr/bin/cloud-init",
  } do
    box:run(change)
    local ok, err = pcall(box.ready, box)
    said[index] = ok and "ready" or err.message
  end
  run:note(json.encode(said))
end

---Writes files, and asks cloud-init for its types.
function app.files(run)
  local raw = { write_files = { { path = "/root/setuid", content = "x", permissions = "4755" } } }
  local box = machine(run, "files", run.cloud:base "debian-13", cloudinit.config {
    raw, cloudinit.user("app", {}),
    cloudinit.write_file("/root/binary", "\0\xFF\xE9\27é"),
    cloudinit.write_file("/root/list", "one\n"),
    cloudinit.write_file("/root/list", "two\n", { append = true }),
    cloudinit.write_file("/home/app/late", "x", { defer = true, owner = "app:app",
      mode = "1640" }),
    cloudinit.run_command "echo begun >/root/commands",
    cloudinit.run_command "cat /home/app/late && grep -q one /root/list || exit 9",
  })
  run:note(json.encode {
    binary = box:run("base64 /root/binary").out, list = box:run("cat /root/list").out,
    late = box:run("stat -c '%U %a' /home/app/late").out,
    setuid = box:run("stat -c '%a' /root/setuid").out,
    types = box:run("cloud-init devel make-mime --list-types").out,
    starts = box:run([[python3 -c 'import cloudinit.handlers as h, json
print(json.dumps(h.INCLUSION_TYPES_MAP))']]).out,
  })
end

---Asks for user-data that would not run, or that no cloud would take.
function app.refused(run, args)
  local base = run.cloud:base "debian-13"
  machine(run, "refused", base, args.gzip == "long" and "#!/bin/sh\n" .. ("#"):rep(64 * 1024 - 20)
    or "apt-get install -y nginx")
end

---Destroys them.
function app.remove(run)
  for _, row in ipairs(run.cloud.driver:machines()) do run.cloud:existing(row):destroy() end
  run.cloud:destroy_images "kinds"
end
return app
]=]

describe("user-data", function()
  local dir, env
  local missing = local_site.lacking()

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir .. "/app", env = env, timeout = 300 })
  end

  ---Packs as gzip(1) does, in base64.
  local function packed(text)
    assert(fs.write(dir .. "/plain", text))
    return assert(proc.run { argv = { "sh", "-c", "gzip -c plain | base64 -w0" }, cwd = dir }).out
  end

  ---What a run noted.
  local function noted(done)
    assert.equal(0, done.code, done.out:sub(-2000) .. done.err)
    for line in done.out:gmatch("[^\n]+") do
      local event = json.decode(line)
      if event.type == "note" then return assert(json.decode(event.text)) end
    end
  end

  setup(function()
    if missing then return end
    dir = assert(fs.temp_dir())
    assert(proc.run { argv = { "chmod", "711", dir } })
    assert(fs.mkdir(dir .. "/app"))
    assert(fs.write(dir .. "/app/app.lua", recipe))
    env = { KILN_PATH = tree, NO_COLOR = "1", PATH = os.getenv "PATH", HOME = dir,
      KILN_LOCAL_DIR = dir .. "/site", KILN_LOCAL_BASE = local_site.archives }
  end)

  teardown(function()
    if missing then return end
    kiln("run", "app.lua", "remove")
    assert(require("rt.machine").network_down { dir = dir .. "/site" })
    proc.run { argv = { "rm", "-rf", dir } }
  end)

  local function on_machines(name, body)
    it(name, function()
      if missing then return pending(missing) end
      body()
    end)
  end

  on_machines("of every kind runs, beside kiln's own part", function()
    local mail = "Content-Type: text/x-shellscript\nMIME-Version: 1.0\n\n#!/bin/sh\n"
      .. "printf '\\303\\251 ran\\n' >> /root/proof\n"
    local rows = noted(kiln("run", "app.lua", "boot", "--json", "--gzip",
      packed "#!/bin/sh\necho 'é ran' >> /root/proof\n", "--packed", packed(mail), "--ascii",
      packed "#!/bin/sh\ntouch /root/ascii\nprintf '\\303\\251 ran\\n' >> /root/proof\n"))
    local more = {
      archive = "second", mail = "second", keys = "second", ascii = "ascii",
      parts = "fifth\nfourth\nproof\nsecond\nthird",
    }
    local count = 0
    for _, row in ipairs(rows) do
      local wanted = row.name == "parts" and "é ran\né ran\n" or "é ran\n"
      assert.equal(wanted, row.out:sub(1, #wanted), row.name .. ": " .. row.out)
      assert.matches("status: done", row.out, 1, true)
      if row.name ~= "handler" then
        assert.matches("recoverable_errors: {}", row.out, 1, true, row.name .. row.out)
      end
      assert.matches(more[row.name] or "", row.out, 1, true)
      count = count + 1
    end
    assert.equal(14, count)
  end)

  on_machines("writes files as cloud-init does, and kiln knows cloud-init's own types", function()
    local got = noted(kiln("run", "app.lua", "files", "--json"))
    assert.equal("AP/pG8Op\n", got.binary)
    assert.equal("one\ntwo\n", got.list)
    assert.equal("app 1640\n", got.late)
    assert.equal("755\n", got.setuid) -- why write_file refuses 4755
    local types = {}
    for name in got.types:gmatch("%S+") do types[#types + 1] = name end
    assert.same(types, user_data.types)
    for start, kind in pairs(json.decode(got.starts)) do
      if not start:find("^text/") then
        local body = kind == "text/cloud-config" and "\na: 1" or "\n"
        assert.equal(kind, "text/" .. user_data.read(start .. body).type)
      end
    end
  end)

  on_machines("that goes wrong makes no machine ready, and cloud-init says why", function()
    local rows = noted(kiln("run", "app.lua", "wrong", "--json"))
    local words = { typo = "run_cmd", schema = "permissions", command = "so far",
      script = "cannot go on", yaml = "" }
    local count = 0
    for _, row in ipairs(rows) do
      assert.is_false(row.ok, row.name)
      assert.equal("exit", row.kind)
      assert.matches("cloud-init of kinds-wrong-" .. row.name, row.message, 1, true)
      assert.matches(words[row.name], row.output, 1, true, row.name)
      count = count + 1
    end
    assert.equal(5, count)
  end)

  on_machines("that goes wrong is taken when the recipe says so, and is told", function()
    local done = kiln("run", "app.lua", "allowed")
    assert.equal(0, done.code, done.err)
    assert.matches("[true,false,true]", done.out .. done.err, 1, true)
    assert.matches("cloud-init of kinds-allowed-typodegraded: cloud-config failed schema",
      done.out .. done.err, 1, true)
  end)

  on_machines("was done only where cloud-init is there, has ended, or is switched off", function()
    assert.same({
      "cloud-init of kinds-states was ended before it was done", "ready",
      "cloud-init of kinds-states is not installed, and its user-data never ran",
    }, noted(kiln("run", "app.lua", "states", "--json")))
  end)

  on_machines("that would not run is refused before anything is made", function()
    local done = kiln("run", "app.lua", "refused")
    assert.equal(1, done.code, done.out .. done.err)
    assert.matches("first line", done.err, 1, true)
    assert.is_nil(done.err:find("nginx", 1, true))
    assert.is_nil(fs.stat(dir .. "/site/machines/kinds-refused"))
  end)
end)
