---Root of one machine against the others, the router and the host's network.
local fs = require "rt.fs"
local httpd = require "rt.httpd"
local machine = require "rt.machine"
local scope = require "kiln.scope"
local databases = require "providers.local.databases"
local site = require "spec.support.site"
local timer = require "rt.timer"

describe("the network of machines", function()
  local missing = site.why_not()
  local s, a, b, c

  setup(function()
    if missing then return end
    s = site.new()
    local function create(name, group)
      local options = s:options(name)
      options.group = group
      return assert(machine.create(options))
    end
    a, b, c = create("a", "shop/web"), create("b", "shop/web"), create("c", "0b0b/web")
    for _, row in ipairs { a, b, c } do assert.equal(row.name .. "\n", s:run(row, "hostname")) end
  end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  ---Connects from a machine to port 22 of an address: "open", or how Python names what hindered it.
  local function reach(from, to, source)
    return s:run(from, ([[python3 - <<'END'
import socket
try:
  socket.create_connection(("%s", 22), 2, source_address=%s).close()
  print("open")
except OSError as problem:
  print(type(problem).__name__, problem)
END]]):format(to, source and ('("' .. source .. '", 0)') or "None"))
  end

  on_machines("joins those of one project and service, and no others", function()
    assert.equal("open\n", reach(a, b.address))
    assert.equal("open\n", reach(b, a.address))
    for _, pair in ipairs { { a, c }, { c, a }, { c, b } } do
      assert.matches("No route to host", reach(pair[1], pair[2].address), 1, true)
    end
  end)

  on_machines("joins machines that were told to, in that direction", function()
    assert(machine.admit { dir = s.dir, name = "c", group = "shop/web" })
    assert.equal("open\n", reach(a, c.address))
    assert.matches("No route to host", reach(c, a.address), 1, true)
    assert.equal("not_found",
      select(2, machine.admit { dir = s.dir, name = "nobody", group = "x/y" }).kind)
  end)

  on_machines("joins a database to the owner that it lets in, as recipes name it", function()
    local function allow(key, value)
      databases.allow({ site = s, machine = function() return { tags = {} } end }, "b", key, value)
    end
    assert.matches("No route to host", reach(c, b.address), 1, true)
    local ok, err = pcall(allow, "colour", "blue")
    assert.is_false(ok)
    assert.matches("not machines by their tag colour=blue", err.message, 1, true)
    allow("kiln_owner", "0b0b-bank")
    assert.matches("No route to host", reach(c, b.address), 1, true)
    allow("kiln_owner", "0b0b-web")
    assert.equal("open\n", reach(c, b.address))
  end)

  on_machines("reaches every floating address, the machine's own too", function()
    local net = assert(machine.network_up { dir = s.dir }).address_net
    local ip = net:gsub("%.0/24$", ".5")
    assert(machine.address_set { dir = s.dir, address = ip, target = a.address })
    for _, row in ipairs { a, b, c } do assert.equal("open\n", reach(row, ip)) end
    assert(machine.address_set { dir = s.dir, address = ip })
    assert.matches("No route to host", reach(c, ip), 1, true)
  end)

  on_machines("takes no packet from a machine with another's address, or a made-up one", function()
    local free = c.address:gsub("%d+$", "200")
    for _, source in ipairs { b.address, free, "198.51.100.7" } do
      s:run(a, "ip addr add " .. source .. "/32 dev eth0")
      assert.matches("timed out", reach(a, c.address, source), 1, true)
      s:run(a, "ip addr del " .. source .. "/32 dev eth0")
    end
    assert.equal("open\n", reach(a, c.address))
  end)

  on_machines("does not let a machine take another's address over", function()
    s:run(a, ([[python3 - <<'END'
import socket, struct
own = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
theirs = socket.inet_aton("%s")
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
for kind in (1, 2):
  body = struct.pack("!HHBBH", 1, 0x800, 6, 4, kind) + own + theirs + b"\xff" * 6 + theirs
  for _ in range(5):
    link.send(b"\xff" * 6 + own + b"\x08\x06" + body)
END
ip addr add %s/32 dev eth0]]):format(c.address, c.address))
    assert.equal("c\n", s:run(c, "hostname"))
    s:run(a, "ip addr del " .. c.address .. "/32 dev eth0")
  end)

  on_machines("leads to nothing of the host's loopback, nor to another site", function()
    local server <close> = assert(httpd.listen { port = 0 })
    local net = assert(machine.network_up { dir = s.dir }).machine_net
    local first, second = net:match("^(%d+%.%d+%.)(%d+)%.")
    local gateway = first .. math.tointeger(second - 1) .. ".1"
    local elsewhere = first .. (tonumber(second) < 200 and "253" or "70") .. ".9"
    s:run(a, "ip addr add 198.51.100.7/32 dev eth0")
    local ask = ("for from in %s 198.51.100.7; do curl -s -m 2 --interface $from http://%s:%d/; "
      .. "echo $?; done; curl -s -m 5 http://%s/; echo $?"):format(a.address, gateway,
      server:port(), elsewhere)
    assert.equal("28\n28\n7\n", scope.race {
      function() return s:run(a, ask) end,
      function()
        server:accept():respond { status = 200, body = "reached" }
        timer.sleep(60)
      end,
    })
    s:run(a, "ip addr del 198.51.100.7/32 dev eth0")
  end)

  on_machines("is not ruled by root of a machine, nor are the host's bounds", function()
    local before = assert(fs.read "/proc/sys/user/max_net_namespaces")
    local seen = s:run(a, [[
      ip -o link | wc -l
      for file in /proc/sys/user/max_*; do echo 0 2>/dev/null >$file; done
      unshare -n true 2>/dev/null || echo "its own are refused"
      for file in /proc/sys/user/max_*; do echo 1000000 2>/dev/null >$file; done
      made=0
      for i in $(seq 100); do
        unshare -n sleep 20 2>/dev/null &
      done
      sleep 1
      made=$(pgrep -c sleep)
      [ $made -lt 70 ] && echo "bounded"
      pkill sleep]])
    assert.equal("2\nits own are refused\nbounded\n", seen)
    assert.equal(before, fs.read "/proc/sys/user/max_net_namespaces")
    assert.equal("later\n", s:run(s:create "later", "hostname"))
    assert(machine.destroy { dir = s.dir, name = "later" })
  end)
end)
