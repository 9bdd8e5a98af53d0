---What a machine takes of the host: processes, memory, what lies in memory and the processors' time
---have an end, and the machine goes on.
local machine = require "rt.machine"
local site = require "spec.support.site"

describe("a machine", function()
  local missing = site.why_not()
  local s, row

  setup(function()
    if missing then return end
    s = site.new()
    local options = s:options "bomb"
    options.memory, options.vcpus = tostring(400 << 20), "1"
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

  -- Processors that so many processes had in so many seconds, at most all.
  local spin = [[python3 -c '
import os, sys, time
end = time.monotonic() + %d
for _ in range(%d):
  if os.fork() == 0:
    while time.monotonic() < end: pass
    os._exit(0)
try:
  while True: os.wait()
except ChildProcessError: pass
print(os.times().children_user / %d)']]

  on_machines("has the processors that it was made with at most", function()
    local had = tonumber(s:run(row, spin:format(3, 4, 3)))
    assert.is_true(had > 0 and had < 1.1)
  end)

  on_machines("has the share of the processors that another has, with twenty processes", function()
    local other = s:create "other"
    assert.equal("running\n", s:run(other, "systemctl is-system-running --wait"))
    s:run(row, ("(%s) >/root/had 2>&1 &"):format(spin:format(6, 20, 6)))
    local its = tonumber(s:run(other, spin:format(4, 1, 4)))
    local had = tonumber(s:run(row,
      "while ! grep -q . /root/had; do sleep 0.1; done; cat /root/had"))
    assert.is_true(its > had / 4, ("%.2f of one process, %.2f of twenty"):format(its, had))
  end)

  on_machines("has no bound that cannot be set in silence", function()
    local unbounded = {}
    for _, check in ipairs(assert(machine.check { dir = s.dir })) do
      if check.warning then unbounded[#unbounded + 1] = check.name end
    end
    assert.equal(#unbounded > 0 and table.concat(unbounded, ", ") or nil, s:row("bomb").unbounded)
  end)
end)
