local fs = require "rt.fs"
local proc = require "rt.proc"
local tty = require "rt.tty"

local dir

---Runs Lua text in a kiln of its own; `shell` is a shell command where $KILN runs it.
local function run(text, shell)
  assert(fs.write(dir .. "/program.lua", text))
  return assert(proc.run {
    argv = { "sh", "-c", shell },
    env = { KILN = proc.info().exe .. " lua " .. dir .. "/program.lua", TERM = "dumb" },
    timeout = 20,
  })
end

---The same with a terminal, on which `typed` (shell) is typed.
local function on_terminal(text, typed)
  return run(text, "(" .. typed .. ") | script -qec \"$KILN\" /dev/null").out
end

local ask = [[
local tty = require "rt.tty"
local line, err = tty.read_line(%s)
print("<" .. tostring(err and err.kind or line) .. ">", type(line))
]]

describe("rt.tty", function()
  before_each(function() dir = assert(fs.temp_dir()) end)
  after_each(function() fs.remove(dir, { recursive = true }) end)

  describe("read_line", function()
    it("does not show what is typed when told so, and gives a secret", function()
      local out = on_terminal(ask:format '"password: ", { echo = false }'
        .. 'os.execute("stty -a | tr \\";\\" \\"\\\\n\\" | grep -ow -e \\"-*echo\\" -e susp.*")',
        "sleep 0.7; echo hunter2; sleep 0.5")
      assert.matches("password: ", out, 1, true)
      assert.is_nil(out:find("hunter2", 1, true), out)
      assert.matches("<<secret>>\tuserdata", out, 1, true)
      assert.matches("\necho\r", out) -- the terminal is as before
      assert.matches("susp = ^Z", out, 1, true)
    end)

    it("shows what is typed otherwise", function()
      local out = on_terminal(ask:format '"name: "', "sleep 0.7; echo kiln; sleep 0.3")
      assert.matches("name: kiln", out, 1, true)
      assert.matches("<kiln>\tstring", out, 1, true)
    end)

    it("puts the terminal back when interrupted", function()
      local out = on_terminal(ask:format '"password: ", { echo = false }'
        .. 'os.execute("stty -a | grep -ow -e \\"-*echo\\"")',
        "sleep 0.7; printf 'half\\003'; sleep 0.5")
      assert.matches("<stopped>\tnil", out, 1, true)
      assert.matches("\necho\r", out)
    end)

    it("puts the terminal back when cancelled, and lets other tasks run meanwhile", function()
      local out = on_terminal([[
        local task, timer, tty = require "rt.task", require "rt.timer", require "rt.tty"
        local asking = task.spawn(function() tty.read_line("?", { echo = false }) end)
        for _ = 1, 10 do timer.sleep(0.02) end
        asking:cancel()
        local _, err = asking:join()
        print("<" .. err.kind .. ">")
        os.execute("stty -a | grep -ow -e '-*echo'")
      ]], "sleep 1")
      assert.matches("<cancelled>", out, 1, true)
      assert.matches("\necho\r", out)
    end)

    it("takes one line from a pipe and leaves the rest", function()
      local out = run(ask:format '""' .. 'print(io.read("a"))', "printf 'one\\ntwo\\n' | $KILN").out
      assert.equal("<one>\tstring\ntwo\n\n", out)
    end)

    it("reads a file, a last line without newline, and the end", function()
      assert(fs.write(dir .. "/input", "only"))
      assert.equal("<only>\tstring\n", run(ask:format '""', "$KILN < " .. dir .. "/input").out)
      assert.equal("<nil>\tnil\n", run(ask:format '""', "$KILN < /dev/null").out)
      assert.equal("<>\tstring\n", run(ask:format '""', "echo | $KILN").out)
    end)

    it("writes the prompt to standard error", function()
      local result = run(ask:format '"name? "', "echo x | $KILN")
      assert.equal("name? ", result.err)
    end)
  end)

  it("tells what is a terminal and how big it is", function()
    local out = on_terminal([[
      local tty = require "rt.tty"
      os.execute("stty cols 91 rows 17")
      print(tty.is_tty(1), tty.size(1))
    ]], "sleep 0.5")
    assert.matches("true\t91\t17", out, 1, true)
    assert.is_false(tty.is_tty(999))
    local columns, err = tty.size(999)
    assert.is_nil(columns)
    assert.equal("unsupported", err.kind)
  end)

  it("writes all of a text, and says when the reader is gone", function()
    local result = run([[print(require("rt.tty").write(1, ("x"):rep(300000)) and "")]],
      "$KILN | wc -c")
    assert.equal("300001", result.out:match "%d+")
    result = run([[
      require("rt.timer").sleep(0.2)
      local _, err = require("rt.tty").write(1, ("x"):rep(300000))
      io.stderr:write(err.kind)
    ]], "$KILN | true")
    assert.equal("unreachable", result.err)
    assert.has_error(function() tty.write(-1, "x") end)
  end)
end)
