---How a machine of the local cloud boots: Debian's cloud-init, started for less CPU, is still what
---Debian's own start of it makes.
local crypto = require "rt.crypto"
local local_site = require "spec.support.local_site"
local machine_boot = require "kiln.machine_boot"
local machine_keys = require "kiln.machine_keys"
local provider = require "providers.local"
local ssh = require "kiln.ssh"

---Defines `start` as the program on the machine does, and runs it.
local started = [[
import json, sys
exec(open("/usr/lib/kiln/cloud-init").read().split("\noriginal = ")[0])
main = start()
]]

describe("a local machine's boot", function()
  local missing = local_site.lacking()
  local dir, session

  setup(function()
    if missing then return end
    dir = local_site.make "boot"
    local driver = provider.new { dir = dir, archives = local_site.archives }
    local user, host = crypto.ed25519_keypair "spec", crypto.ed25519_keypair "spec"
    local row = driver:create_machine {
      name = "boots", token = "boots", image = driver:base_image("debian-13").id, tags = {},
      user_data = machine_keys.user_data {
        user_public = user.public, host_private = crypto.reveal(host.private),
        host_public = host.public,
      },
    }
    session = ssh.connect { host = row.address, key = user.private, host_key = host.public }
    machine_boot.await({ name = "boots", on = { note = function(_, text) error(text) end } },
      session, 120, "done")
  end)
  teardown(function()
    if session then session:close() end
    if dir then local_site.remove(dir) end
  end)

  local function on_machines(name, body)
    it(name, function()
      if missing then return pending(missing) end
      body()
    end)
  end

  local function out(command)
    local done = session:run(command, { check = false })
    return done.out .. done.err
  end

  local function python(text)
    return session:run("python3 -", { stdin = text }).out
  end

  on_machines("ends with all units well, and with cloud-init's own log", function()
    assert.equal("running\n", out "systemctl is-system-running --wait")
    assert.equal("", out "systemctl --failed --no-legend")
    assert.matches("running 'modules:final'", out "journalctl -b -t cloud-init", 1, true)
    assert.equal(out "cloud-init --version", out "/usr/lib/kiln/cloud-init --version")
    assert.equal(out "cloud-init status --bad", out "/usr/lib/kiln/cloud-init status --bad")
  end)

  on_machines("imports the library for URLs when one is asked for", function()
    assert.equal("False\nTrue\nhello\nTrue\nTrue\n", python(started .. [[
from cloudinit import url_helper
print("requests" in sys.modules)
try:
    url_helper.readurl("http://127.0.0.1:9/", timeout=2, retries=0)
except url_helper.UrlError as error:
    print("refused" in str(error))
import http.server, threading
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(url_helper.readurl("http://127.0.0.1:%d/" % server.server_port).contents.decode())
import requests
print(url_helper.requests.Response is requests.Response)
print(url_helper.exceptions.HTTPError is requests.exceptions.HTTPError)
]]))
  end)

  on_machines("parses a text once, and each reader has a copy of its own", function()
    assert.equal('{"a": [1]}\n2 ScannerError\n', python(started .. [[
import yaml
yaml.safe_load("a: [1]")["a"].append(2)
print(json.dumps(yaml.safe_load("a: [1]")))
said = []
for _ in range(2):
    try:
        yaml.safe_load("a: [1]\n\tb: 1")
    except yaml.YAMLError as error:
        said.append(str(error))
        kind = type(error).__name__
print(said.count(said[0]), kind)
]]))
  end)

  on_machines("starts a cloud-init that does not fit as Debian does", function()
    assert.matches("^/usr/bin/cloud%-init %d", out [[
      mkdir /tmp/first
      printf '%s\n' 'import requests.adapters, sys' 'del sys.modules["ftplib"]' \
        'sys.path.remove("/tmp/first")' 'import ftplib' >/tmp/first/ftplib.py
      PYTHONPATH=/tmp/first /usr/lib/kiln/cloud-init --version]])
  end)

  on_machines("costs less than Debian's start of cloud-init", function()
    assert.equal("True\n", python [[
import os
def cost(program):
    before = os.times()
    os.spawnv(os.P_WAIT, program, [program, "--help"])
    after = os.times()
    return after.children_user + after.children_system \
        - before.children_user - before.children_system
shown, null = os.dup(1), os.open("/dev/null", os.O_WRONLY)
os.dup2(null, 1)
costs = [(cost("/usr/lib/kiln/cloud-init"), cost("/usr/bin/cloud-init")) for _ in range(5)]
os.dup2(shown, 1)
print(min(ours for ours, _ in costs) < 0.9 * min(theirs for _, theirs in costs))
]])
  end)

  on_machines("starts D-Bus when somebody connects to it", function()
    assert.equal("inactive\n", out "systemctl is-active dbus.service")
    assert.matches("org.freedesktop.DBus", out "busctl list", 1, true)
    assert.equal("active\n", out "systemctl is-active dbus.service")
  end)
end)
