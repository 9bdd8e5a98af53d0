---Real machines of a site of its own; skipped, with the reason, where there can be none.
local fs = require "rt.fs"
local http = require "rt.http"
local httpd = require "rt.httpd"
local machine = require "rt.machine"
local proc = require "rt.proc"
local scope = require "kiln.scope"
local site = require "spec.support.site"
local tcp = require "rt.tcp"
local timer = require "rt.timer"

---Waits until `check` gives a true value, at most `seconds`.
local function eventually(check, seconds)
  local limit = timer.now() + seconds
  repeat
    local got = check()
    if got then return got end
    timer.sleep(0.1)
  until timer.now() > limit
  return nil
end

describe("rt.machine", function()
  local missing = site.why_not()
  local s

  setup(function()
    if missing then return end
    s = site.new()
    http.request { url = "http://127.0.0.1:9/" } -- libcurl opens descriptors of its own, once
  end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  on_machines("boots a machine with sshd, cloud-init and no failed unit", function()
    local started = timer.now()
    local row = s:create "one"
    assert.equal("running", row.state)
    assert(eventually(function() return tcp.reach { host = row.address, port = 22 } end, 30))
    assert.is_true(timer.now() - started < 20)
    local told = s:run(row,
      "hostname; cloud-init status --wait; systemctl is-system-running --wait")
    assert.equal("one\nstatus: done\nrunning\n", (told:gsub("\n%.+", "\n"))) -- a dot a look
  end)

  on_machines("takes a machine with the same name and token as it is", function()
    local before = s:row "one"
    assert.same(before, assert(machine.create(s:options "one")))
    local other = s:options "one"
    other.token = "another"
    local _, err = machine.create(other)
    assert.equal("exists", err.kind)
  end)

  on_machines("keeps a machine in its own namespaces, without rights on the host", function()
    local row = s:row "one"
    local seen = s:run(row, [[
      unshare -U true && echo userns
      mount -t tmpfs t /mnt && echo mount
      grep Seccomp: /proc/1/status
      dmesg >/dev/null 2>&1 || echo "no kernel log"
      echo 1 > /proc/sys/kernel/sysrq 2>/dev/null || echo "no sysrq"
      mknod /root/disk b 254 0 2>/dev/null || echo "no devices"
      head -n1 /proc/self/uid_map | tr -s " "]])
    assert.equal("userns\nmount\nSeccomp:\t2\nno kernel log\nno sysrq\nno devices\n"
      .. " 0 0 1\n", seen) -- of the namespace around its own, which bounds what it may make
  end)

  on_machines("keeps a machine from what listens on the host's loopback alone", function()
    local server <close> = assert(httpd.listen { port = 0 })
    local net = assert(machine.network_up { dir = s.dir }).machine_net
    local a, b = net:match("^(%d+%.%d+%.)(%d+)%.")
    local gateway = a .. math.tointeger(b - 1) .. ".1"
    local ask = ("curl -s -m 2 http://%s:%d/; echo $?"):format(gateway, server:port())
    assert.equal("28\n", scope.race {
      function() return s:run(s:row "one", ask) end,
      function()
        server:accept():respond { status = 200, body = "reached" }
        timer.sleep(60)
      end,
    })
  end)

  on_machines("refuses a name that is no file name, a missing image, a missing machine", function()
    local _, err = machine.create { dir = s.dir, name = "../x", image = "base" }
    assert.equal("invalid", err.kind)
    _, err = machine.create { dir = s.dir, name = "x", image = "nothing" }
    assert.equal("not_found", err.kind)
    for _, verb in ipairs { "start", "power_off" } do
      _, err = machine[verb] { dir = s.dir, name = "nobody" }
      assert.equal("not_found", err.kind)
      _, err = machine[verb] { dir = s.dir, name = "../machines/one" }
      assert.equal("invalid", err.kind)
    end
    assert(machine.destroy { dir = s.dir, name = "nobody" })
  end)

  on_machines("boots again when the machine restarts itself", function()
    local row = s:row "one"
    s:run(row, "touch /run/before; sync; systemctl reboot")
    local seen = eventually(function()
      local ok, out = pcall(s.run, s, row, "test -e /run/before || echo again")
      return ok and out == "again\n"
    end, 30)
    assert.is_true(seen)
    assert.equal("running", s:row("one").state)
  end)

  on_machines("switches off in good order and starts again with its disk and address", function()
    local row = s:row "one"
    s:run(row, "echo kept > /root/kept")
    assert(machine.power_off { dir = s.dir, name = "one" })
    assert.equal("stopped", s:row("one").state)
    assert(machine.power_off { dir = s.dir, name = "one" })
    local again = assert(machine.start { dir = s.dir, name = "one" })
    assert.equal(row.address, again.address)
    assert.equal("kept\n", s:run(again, "cat /root/kept"))
  end)

  on_machines("moves a floating address without losing a request", function()
    local two, one = s:create "two", s:row "one"
    local net = assert(machine.network_up { dir = s.dir })
    local ip = net.address_net:gsub("%.0/24$", ".7")
    for _, row in ipairs { one, two } do
      s:run(row, "mkdir -p /srv/w; hostname > /srv/w/name; systemd-run -q --unit=web "
        .. "python3 -m http.server -d /srv/w 8000")
      assert(eventually(function() return tcp.reach { host = row.address, port = 8000 } end, 20))
    end
    local function ask()
      return http.request {
        url = "http://" .. ip .. ":8000/name", timeout = 5, headers = { Connection = "close" },
      }
    end
    local function point(row)
      assert(machine.address_set { dir = s.dir, address = ip, target = row.address })
    end
    point(one)
    assert(eventually(ask, 20))
    local failed, asked, seen, done = 0, 0, {}, false
    scope.all {
      function()
        while not done do
          local answer = ask()
          asked = asked + 1
          if answer then seen[answer.body] = true else failed = failed + 1 end
        end
      end,
      function()
        for i = 1, 8 do
          point(i % 2 == 0 and one or two)
          timer.sleep(0.15)
        end
        done = true
      end,
    }
    assert.equal(0, failed)
    assert.is_true(asked > 20)
    assert.same({ ["one\n"] = true, ["two\n"] = true }, seen)
    assert.same({ { address = ip, target = one.address } },
      assert(machine.addresses { dir = s.dir }))
    assert.equal("one\n", s:run(two, "curl -s http://" .. ip .. ":8000/name"))
    assert.equal("one\n", s:run(one, "curl -s http://" .. ip .. ":8000/name"))
    assert(machine.address_set { dir = s.dir, address = ip })
    assert.is_nil((ask()))
  end)

  on_machines("counts the connections that an address still has to a machine", function()
    local one, two = s:row "one", s:row "two"
    local net = assert(machine.network_up { dir = s.dir })
    local ip = net.address_net:gsub("%.0/24$", ".8")
    assert(machine.address_set { dir = s.dir, address = ip, target = one.address })
    local open = assert(proc.start { argv = { "sh", "-c", "exec sleep 60 | python3 -c '"
      .. "import socket,sys,time; s=socket.create_connection((\"" .. ip .. "\",22));"
      .. "print(1,flush=True); time.sleep(60)'" } })
    assert.equal("1", (open:read_line()))
    local function count(row)
      return machine.connections { dir = s.dir, address = ip, target = row.address }
    end
    assert.equal(1, count(one))
    assert(machine.address_set { dir = s.dir, address = ip, target = two.address })
    assert.equal(1, count(one))
    assert.equal(0, count(two))
    open:kill "KILL"
    open:wait()
    assert(eventually(function() return count(one) == 0 end, 5))
  end)

  on_machines("mends a network whose router died under its machines", function()
    local one, two = s:row "one", s:row "two"
    local net = assert(machine.network_up { dir = s.dir })
    local ip = net.address_net:gsub("%.0/24$", ".9")
    assert(machine.address_set { dir = s.dir, address = ip, target = two.address })
    local pid = fs.read(s.dir .. "/router"):match("pid%z(%d+)")
    assert(proc.run { argv = { "kill", "-KILL", pid } })
    assert(eventually(function() return not proc.alive(math.tointeger(tonumber(pid))) end, 10))
    assert.same(net, assert(machine.network_up { dir = s.dir }))
    assert.equal("running", s:row("one").state)
    assert.equal("one\n", s:run(one, "hostname"))
    local rows = assert(machine.addresses { dir = s.dir })
    assert.same({ address = ip, target = two.address }, rows[#rows])
    assert.equal("two\n", s:run({ address = ip }, "hostname"))
    assert(machine.address_set { dir = s.dir, address = ip })
  end)

  on_machines("leaves a whole machine or none when its helper is killed at any moment", function()
    local options = s:options "cut"
    local request = ""
    for key, value in pairs(options) do request = request .. key .. "\0" .. value .. "\0" end
    for _, seconds in ipairs { 0.01, 0.03, 0.05, 0.08, 0.12, 0.2 } do
      proc.run {
        argv = { "timeout", "-s", "KILL", tostring(seconds), "/proc/" .. proc.info().pid .. "/exe",
          "__machine", "create" }, stdin = request,
      }
      local row = s:row "cut"
      if not row then assert.is_nil(fs.stat(s.dir .. "/machines/cut")) end
      local made = s:create "cut"
      assert.equal("running", made.state)
      if row then assert.equal(row.created, made.created) end
      assert(machine.destroy { dir = s.dir, name = "cut" })
      assert.is_nil(fs.stat(s.dir .. "/machines/cut"))
    end
  end)

  on_machines("lists a machine whose creation is under way, when it is whole", function()
    scope.all {
      function() s:create "late" end,
      function()
        while not fs.stat(s.dir .. "/machines/late") do timer.sleep(0.002) end
        assert.equal("running", s:row("late").state)
      end,
    }
    assert(machine.power_off { dir = s.dir, name = "late" })
    assert.equal("stopped", s:row("late").state)
    assert(machine.destroy { dir = s.dir, name = "late" })
  end)

  on_machines("makes one machine when two ask for it at once", function()
    local rows = scope.all {
      function() return s:create "twice" end, function() return s:create "twice" end,
    }
    assert.equal(rows[1].created, rows[2].created)
    assert.equal(rows[1].address, rows[2].address)
    assert.equal("running", s:row("twice").state)
    assert(machine.destroy { dir = s.dir, name = "twice" })
  end)

  on_machines("takes the place of a cable that a machine of its address left behind", function()
    local address = s:create("before").address
    assert(machine.destroy { dir = s.dir, name = "before" })
    local router = fs.read(s.dir .. "/router"):match "pid%z(%d+)"
    local inside = { "nsenter", "--net=/proc/" .. router .. "/ns/net", "sh", "-c", [[
      ip link del "$0" 2>/dev/null
      ip link add "$0" type veth peer name left]], "m" .. address:match "%d+$" }
    assert.equal(0, proc.run({ argv = inside }).code)
    local row = s:create "after"
    assert.equal(address, row.address)
    assert.equal("after\n", s:run(row, "hostname"))
    assert(machine.destroy { dir = s.dir, name = "after" })
  end)

  on_machines("refuses to take the network from machines that run", function()
    local _, err = machine.network_down { dir = s.dir }
    assert.equal("exists", err.kind)
  end)

  on_machines("leaves nothing of destroyed machines and of the network", function()
    for _, name in ipairs { "one", "two" } do
      assert(machine.destroy { dir = s.dir, name = name })
      assert(machine.destroy { dir = s.dir, name = name })
    end
    assert.same({}, fs.list(s.dir .. "/machines"))
    assert(machine.network_down { dir = s.dir })
    assert.equal("", s:traces())
  end)
end)
