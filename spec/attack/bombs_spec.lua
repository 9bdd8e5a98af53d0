---What a machine takes of the host: processes and memory have an end, and the machine goes on.
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
end)
