---A machine's disk: what is inside fills it, never the host's; it outlives the machine's power and
---is an image's layer afterwards.
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local site = require "spec.support.site"
local snapshot = require "rt.snapshot"

local MiB = 1 << 20

describe("a machine's disk", function()
  local missing = site.why_not()
  local s, row

  setup(function()
    if missing then return end
    s = site.new()
    local options = s:options "full"
    options.disk = tostring(256 * MiB)
    row = assert(machine.create(options))
    assert.equal("running\n", s:run(row, "systemctl is-system-running --wait"))
  end)
  teardown(function()
    if s then assert.equal("", s:close()) end
  end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  local function shell(script)
    return assert(proc.run { argv = { "sh", "-c", script, "sh", s.dir } }).out
  end

  ---MiB that the machine's folder takes of the host.
  local function taken()
    return tonumber(shell "du -sm \"$1\"/machines/full | cut -f 1")
  end

  local function loops() return shell "losetup -nO BACK-FILE | grep -F \"$1/\"" end

  on_machines("is full at its size, with bytes or with files, and the machine goes on", function()
    assert.matches("No space left on device", s:run(row, "dd if=/dev/zero of=/bomb bs=1M 2>&1"))
    assert.matches("No space left on device", s:run(row, [[python3 -c '
for n in range(1 << 20): open("/var/tmp/%d" % n, "w").close()' 2>&1]]))
    assert.is_true(taken() <= 257)
    assert.equal("full\n", s:run(row, "hostname"))
  end)

  on_machines("gives what is deleted back to the host", function()
    s:run(row, "rm /bomb; find /var/tmp -type f -delete; sync -f /")
    for _ = 1, 100 do
      if taken() < 100 then break end
      s:run(row, "sync -f /; sleep 0.2") -- the kernel discards after it has written its journal
    end
    assert.is_true(taken() < 100)
    assert.equal("running\n", s:run(row, "systemctl is-system-running"))
  end)

  on_machines("outlives the machine's power, cut or not, mounted by none meanwhile", function()
    assert.equal(s.dir .. "/machines/full/disk\n", loops())
    s:run(row, "echo kept >/kept; sync")
    assert(machine.power_off { dir = s.dir, name = "full", within = 0 })
    assert(machine.start { dir = s.dir, name = "full" })
    assert.equal("kept\n", s:run(row, "cat /kept"))
    assert(machine.power_off { dir = s.dir, name = "full" })
    assert.equal("", loops())
  end)

  on_machines("becomes an image with all that a layer can say", function()
    assert(machine.start { dir = s.dir, name = "full" })
    assert.equal("", s:run(row, [[
      exec 2>&1
      rm /etc/motd; rm -r /etc/apt; mkdir /etc/apt; echo mine >/etc/apt/mine
      mkdir -m 1700 /odd; cd /odd; echo x >a; ln a b; ln -s nowhere c; mkfifo d
      truncate -s 1G holes; chown 1234:60000 a; touch -d 2001-02-03 a; chmod 4755 a
      python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("e")'
      cp /bin/true f; setcap cap_net_raw+ep f
      python3 -c 'import os; os.setxattr("f", "user.note", b"noted")']]))
    assert(machine.power_off { dir = s.dir, name = "full" })
    local image = assert(snapshot.freeze { dir = s.dir, name = "full", image = "odd" })
    assert.is_true(image.bytes > 1 << 30)
    assert.is_true(tonumber(shell "du -sm \"$1\"/images/odd | cut -f 1") < 50)
    local two = s:create("two", "odd")
    assert.equal("two\nkept\nmine\n1700\n4755 1234:60000 2 2001-02-03\nnowhere\nfifo\nsocket\n"
      .. "f cap_net_raw=ep\nnoted\n1073741824\n", s:run(two, [[
      hostname; cat /kept; cd /odd
      ls -A /etc/motd /etc/apt/apt.conf.d 2>/dev/null; cat /etc/apt/*
      stat -c %a .; stat -c '%a %u:%g %h %.10y' b; readlink c; stat -c %F d e; getcap f
      python3 -c 'import os; print(os.getxattr("f", "user.note").decode())'; stat -c %s holes]]))
    assert(machine.destroy { dir = s.dir, name = "two" })
  end)

  on_machines("is gone with the machine, in use or not", function()
    assert(machine.start { dir = s.dir, name = "full" })
    assert(machine.destroy { dir = s.dir, name = "full" })
    assert.equal("", loops())
    assert.is_nil(fs.stat(s.dir .. "/machines/full"))
  end)
end)
