---What a machine takes of the host: processes, memory and what lies in memory have an end, and the
---machine goes on.
local machine = require "rt.machine"
local site = require "spec.support.site"

describe("a machine", function()
  local missing = site.why_not()
  local s, row

  setup(function()
    if missing then return end
    s = site.new()
    local options = s:options "bomb"
    options.memory = tostring(400 << 20)
    row = assert(machine.create(options))
    assert.equal("running\n", s:run(row, "systemctl is-system-running --wait"))
  end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  on_machines("has 1,024 processes, whatever their users", function()
    local seen = s:run(row, [[python3 - <<'END'
import os, signal, time
made = []
try:
  while len(made) < 5000:
    pid = os.fork()
    if pid == 0:
      if len(made) % 2: os.setuid(1000 + len(made) % 4)
      time.sleep(60)
      os._exit(0)
    made.append(pid)
except OSError as problem:
  print(problem.strerror, 800 < len(made) < 1024)
for pid in made: os.kill(pid, signal.SIGKILL)
END]])
    assert.equal("Resource temporarily unavailable True\n", seen)
    assert.equal("running\n", s:run(row, "systemctl is-system-running"))
  end)

  on_machines("has the memory that it was made with, and goes on when more is asked for", function()
    assert.equal("killed: 137\n", s:run(row,
      "python3 -c 'b = bytearray(1 << 30); print(\"all\")' 2>/dev/null || echo \"killed: $?\""))
    assert.equal("bomb\n", s:run(row, "hostname"))
  end)

  on_machines("fills the file systems in its memory, with bytes or files, and goes on", function()
    local seen = s:run(row, [[python3 - <<'END'
import os
folders = ["/run", "/tmp", "/dev/shm", "/dev"]
for folder in folders:
  try:
    with open(folder + "/bomb", "wb", buffering=0) as out:
      while out.write(bytes(1 << 20)) == 1 << 20: pass
      out.write(bytes(1 << 20))
  except OSError as problem:
    print(folder, problem.strerror, os.path.getsize(folder + "/bomb") >> 20)
for folder in folders:
  try:
    for count in range(1 << 20): os.close(os.open("%s/bomb.%d" % (folder, count), os.O_CREAT))
  except OSError as problem:
    print(folder, problem.strerror, count < 30000)
END]])
    assert.matches("^/run No space left on device 4%d\n/tmp No space left on device 100\n"
      .. "/dev/shm No space left on device 100\n/dev No space left on device [01]\n", seen)
    for _, folder in ipairs { "/run", "/tmp", "/dev/shm", "/dev" } do
      assert.matches("\n" .. folder .. " No space left on device True\n", seen)
    end
    assert.equal("bomb\n", s:run(row, "hostname"))
    s:run(row, "rm -f /run/bomb* /dev/bomb*; find /tmp /dev/shm -name 'bomb*' -delete")
    assert.equal("running\n", s:run(row, "systemctl is-system-running"))
  end)
end)
