local sshd = require "spec.support.sshd"
local ssh = require "kiln.ssh"
local timer = require "rt.timer"

describe("ssh.all", function()
  local server, sessions

  lazy_setup(function()
    server = sshd.start()
    sessions = {}
    for index = 1, 6 do
      local options = server:options { within = 10, name = "app-" .. index }
      options.timeout = nil
      sessions[index] = ssh.connect(options)
    end
  end)
  lazy_teardown(function()
    for _, session in ipairs(sessions) do session:close() end
    server:stop()
  end)

  ---Text that does something else on the nth machine to come.
  local counter = 0
  local function by_turn(cases)
    counter = counter + 1
    local dir = ("%s/turn%d"):format(server.dir, counter)
    return ("n=1; mkdir -p %s; until mkdir %s/$n 2>/dev/null; do n=$((n+1)); done; "
      .. "case $n in %s esac"):format(dir, dir, cases)
  end

  it("runs on all and puts equal outcomes together, the largest group first", function()
    local report = ssh.all(sessions, by_turn "2) echo odd;; *) echo same;;")
    assert.equal(6, report.ok)
    assert.equal(0, report.failed)
    assert.equal(2, #report.groups)
    assert.equal(5, #report.groups[1].names)
    assert.equal("same\n", report.groups[1].outcome.out)
    assert.equal("odd\n", report.groups[2].outcome.out)
    assert.equal("app-1", report.outcomes[1].name)
    local text = tostring(report)
    assert.matches("6 of 6 ok, 0 failed, 0 not begun", text, 1, true)
    assert.matches("status 0 · 5: app%-%d, app%-%d, app%-%d and 2 more\n    same", text)
    assert.matches("status 0 · 1: app%-%d\n    odd", text)
  end)

  it("raises exit with the report, and begins no more after too many failures", function()
    local ok, err = pcall(ssh.all, sessions, by_turn "1) echo no; exit 3;; *) echo yes;;",
      { at_once = 1 })
    assert.is_false(ok)
    assert.equal("exit", err.kind)
    assert.equal(1, err.report.failed)
    assert.equal(5, err.report.skipped)
    assert.matches("status 3 · 1: app-1\n    no", err.message, 1, true)
    assert.matches("not begun · 5", err.message, 1, true)

    local report = ssh.all(sessions, by_turn "1|3) exit 3;; *) echo yes;;",
      { at_once = 1, max_failures = 2 })
    assert.equal(4, report.ok)
    assert.equal(2, report.failed)
    report = ssh.all(sessions, by_turn "*) exit 1;;", { check = false, at_once = 2 })
    assert.is_true(report.failed >= 1 and report.failed <= 2)
    assert.equal(6 - report.failed, report.skipped)
  end)

  it("keeps to the number at once, and lets those that run end", function()
    local started = timer.now()
    ssh.all(sessions, "sleep 0.3", { at_once = 2 })
    assert.is_true(timer.now() - started >= 0.9)
  end)

  it("counts errors as failures, each by its kind", function()
    local lost = { name = "lost", run = function()
      error(require("kiln.error").new { kind = "unreachable", message = "lost: gone" }, 0)
    end }
    local report = ssh.all({ sessions[1], lost, sessions[2] }, "true", { max_failures = 1 })
    assert.equal(2, report.ok)
    assert.equal("unreachable", report.outcomes[2].error.kind)
    assert.matches("unreachable · 1: lost\n    lost: gone", tostring(report), 1, true)
    report = ssh.all(sessions, "sleep 5", { timeout = 0.3, check = false })
    assert.equal("timeout", report.groups[1].outcome.error.kind)
  end)

  it("passes on what is wrong with the call itself", function()
    local ok, err = pcall(ssh.all, sessions, "true", { at_most = 3 })
    assert.is_false(ok)
    assert.equal("usage", err.kind)
    assert.equal(0, #ssh.all({}, "true").outcomes)
  end)

  it("hands on lines with their machine's name, variables and users", function()
    local names = {}
    ssh.all(sessions, "echo $A", {
      env = { A = "x" }, on_line = function(line, _, name) names[name] = line end,
    })
    for index = 1, 6 do assert.equal("x", names["app-" .. index]) end
  end)
end)
