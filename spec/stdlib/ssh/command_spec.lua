local sshd = require "spec.support.sshd"
local crypto = require "rt.crypto"
local proc = require "rt.proc"
local ssh = require "kiln.ssh"
local timer = require "rt.timer"

describe("a command of kiln.ssh", function()
  local server, session

  lazy_setup(function()
    server = sshd.start()
    local options = server:options { within = 10, name = "app-1" }
    options.timeout = nil
    session = ssh.connect(options)
  end)
  lazy_teardown(function()
    session:close()
    server:stop()
  end)

  local function raised(kind, ...)
    local ok, err = pcall(session.run, session, ...)
    assert.is_false(ok)
    assert.equal(kind, err.kind, err.message)
    return err
  end

  it("has variables, whatever is in them, and a folder", function()
    local odd = "a 'b' \"c\" $HOME `id` \\ \n\tline; é"
    local done = session:run("printf '%s|%s|' \"$ODD\" \"$N\"; pwd", {
      env = { ODD = odd, N = 7 }, cwd = "/usr/lib",
    })
    assert.equal(odd .. "|7|/usr/lib\n", done.out)
    raised("exit", "true", { cwd = "/no/such/folder" })
    raised("invalid", "true", { env = { ["A B"] = "x" } })
  end)

  it("has secret variables that are in no argv and leave the input alone", function()
    local done = session:run("cat; printf '|%s|' \"$TOKEN\"; ps -ef; cat /proc/$$/cmdline", {
      env = { TOKEN = crypto.secret "hush 'hush'", OPEN = "x" }, stdin = "first line\nrest",
    })
    assert.matches("^first line\nrest|hush 'hush'|", done.out)
    local _, count = done.out:gsub("hush", "")
    assert.equal(2, count)
    assert.equal("in|s", session:run("printf '%s|%s' \"$(cat)\" \"$T\"", {
      env = { T = crypto.secret "s" }, stdin = crypto.secret "in",
    }).out)
  end)

  it("runs as another user, with that user's home", function()
    if proc.info().uid ~= 0 then return pending("needs root") end
    local done = session:run("id -un; echo $HOME $USER; echo \"$A\"; pwd; cat", {
      user = "nobody", env = { A = "it's" }, cwd = "/", stdin = "in",
    })
    assert.equal("nobody\n/nonexistent nobody\nit's\n/\nin", done.out)
    raised("usage", "true", { user = "nobody; id" })
    raised("exit", "true", { user = "no-such-user-here" })
  end)

  it("keeps its status and signal, in whatever surroundings", function()
    for _, opts in ipairs {
      {}, { kill = false }, { cwd = "/" }, { env = { A = "1" } },
      { user = proc.info().uid == 0 and "nobody" or nil },
    } do
      opts.check = false
      assert.equal(7, session:run("exit 7", opts).code)
      local done = session:run("kill -KILL $$", opts)
      if opts.user then -- runuser and sudo make a status of it, as shells do
        assert.equal(137, done.code)
      else
        assert.equal("KILL", done.signal)
      end
    end
  end)

  it("is ended with its children at its deadline, there", function()
    for index, opts in ipairs {
      {}, { pty = true }, { user = proc.info().uid == 0 and "nobody" or nil },
      { on_line = function() end },
    } do
      local mark = ("6%d.%d"):format(index, math.random(100000, 999999))
      opts.timeout = 1
      local started = timer.now()
      local text = ("echo begun; sleep %s & sleep %s; echo late"):format(mark, mark)
      local err = raised("timeout", text, opts)
      assert.is_true(timer.now() - started < 5)
      assert.matches("begun", err.out, 1, true)
      local left = ("until ! pgrep -f 'sleep %s' >/dev/null; do sleep 0.05; done"):format(
        mark:gsub("^(.)", "[%1]"))
      assert.equal(0, session:run(left, { timeout = 10 }).code)
    end
  end)

  it("is ended at its deadline also when the connection was lost before", function()
    local mark = "7." .. math.random(100000, 999999)
    local options = server:options { within = 10 }
    options.timeout = nil
    local other = ssh.connect(options)
    local child = require("rt.task").spawn(function()
      other:run("sleep " .. mark, { timeout = 1.5 })
    end)
    local count = ("pgrep -fc 'sleep [7]%s' || true"):format(mark:sub(2))
    while session:run(count).out == "0\n" do timer.sleep(0.02) end
    other:close()
    child:join()
    local left = ("until ! pgrep -f 'sleep [7]%s' >/dev/null; do sleep 0.05; done"):format(
      mark:sub(2))
    assert.equal(0, session:run(left, { timeout = 10 }).code)
  end)

  it("is only left when told so", function()
    local mark = "3." .. math.random(100000, 999999)
    raised("timeout", "sleep " .. mark, { timeout = 0.3, kill = false })
    assert.equal("1\n", session:run(("pgrep -fc '^sleep 3%s'"):format(mark:sub(2))).out)
    session:run(("pkill -f 'sleep [3]%s'"):format(mark:sub(2)))
  end)

  it("does not take an early 124 or a kill for its deadline", function()
    assert.equal(124, raised("exit", "exit 124").code)
    assert.equal("KILL", raised("exit", "kill -KILL $$").signal)
  end)

  it("names the machine with each line, and refuses options that it does not have", function()
    local seen = {}
    session:run("echo a; echo b >&2", {
      on_line = function(line, stream, name) seen[#seen + 1] = name .. stream .. line end,
    })
    table.sort(seen)
    assert.same({ "app-1errb", "app-1outa" }, seen)
    assert.matches("unknown option 'stdout'", raised("usage", "true", { stdout = 1 }).message)
    raised("not_found", "cat", { stdin_file = "/no/such/file" })
  end)
end)
