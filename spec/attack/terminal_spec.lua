---Hostile bytes from machines and clouds never reach the terminal as they are.
local fs = require "rt.fs"
local json = require "rt.json"
local proc = require "rt.proc"
local screen = require "kiln.cli.screen"
local recipes = require "spec.support.recipes"

local exe = assert(fs.realpath("/proc/self/exe"))
local root = assert(fs.cwd())

---Moves the cursor, clears the screen, changes the title, sets colours, turns text round, ends the
---line, is no UTF-8; a C1 control as one byte and as UTF-8.
local hostile = {
  "\27[2J", "\27]0;owned\7", "\27[31mred\27[0m", "\27[1A\27[2K", "\r", "\8\8\8", "\127", "\0",
  "\xC2\x9B2J", "\x9B2J", "\xE2\x80\xAEtxt", "\xE2\x81\xA6x", "\xD8\x9C", "\xE2\x80\xA8",
  "\xFF\xFE", "\xC0\x80", "\xED\xA0\x80", "\27", "\xE2\x80",
}
local everything = table.concat(hostile, "·")

---What no output of kiln's may have, but for a newline.
local function offence(text, own_colours)
  if own_colours then text = text:gsub("\27%[[%d;]*[mAJ]", "") end
  if not utf8.len(text) then return "not UTF-8" end
  return text:match "[\0-\8\11-\31\127]" or text:match "\xC2[\x80-\x9F]" or text:match "\xD8\x9C"
    or text:match "\xE2\x80[\x8E\x8F\xA8-\xAE]" or text:match "\xE2\x81[\xA6-\xA9]"
end

local function clean(text, context)
  local found = offence(text)
  assert.is_nil(found, found and ("%s: %q in %q"):format(context, found, text))
end

describe("kiln.cli.screen", function()
  it("leaves good text as it is, in every script", function()
    for _, text in ipairs { "", "plain", "✓ äöü 日本語 עברית العربية 🙂", "a\tb", "100 % \\x1b" } do
      assert.equal(text, screen.text(text))
      if not text:find "\t" then assert.equal(text, screen.line(text)) end
    end
    assert.equal("two\nlines", screen.text "two\nlines")
    assert.equal("two\\x0alines", screen.line "two\nlines")
  end)

  it("shows what is hostile as escapes", function()
    assert.equal("\\x1b[2J", screen.text "\27[2J")
    assert.equal("\\x9b2J", screen.text "\xC2\x9B2J")
    assert.equal("\\x9b2J", screen.text "\x9B2J")
    assert.equal("\\u{202e}txt", screen.text "\xE2\x80\xAEtxt")
    assert.equal("\\xff\\xfe", screen.text "\xFF\xFE")
    assert.equal("\\x00", screen.text "\0")
  end)

  it("drops the colours of a command's line, and shows the rest", function()
    assert.equal("red and \\x1b[2J", screen.output "\27[1;31mred\27[0m and \27[2J\r")
  end)

  it("makes every text safe, and is done after one time", function()
    local state = 12345
    local function draw(n) state = (state * 1103515245 + 12345) & 0x7fffffff return state % n end
    for _ = 1, 3000 do
      local parts = {}
      for index = 1, draw(12) do
        local kind = draw(3)
        parts[index] = kind == 0 and string.char(draw(256))
          or kind == 1 and hostile[draw(#hostile) + 1] or utf8.char(draw(0x2100))
      end
      local text = table.concat(parts)
      for _, name in ipairs { "text", "line", "output" } do
        local once = screen[name](text)
        clean(once:gsub("\n", ""), name)
        assert.equal(once, screen[name](once))
      end
      assert.is_nil(screen.line(text):find "[\n\t]")
    end
  end)
end)

---A recipe whose world says hostile things wherever the world is asked.
local recipe = [[
local op = require "kiln.op"
local world = require "kiln.spec_world"
local bytes = world.bytes
local app = { name = "app" }
app.args = { word = { "what", default = "x" } }
function app.deploy(run)
  run:note(bytes)
  run:step { name = "step " .. bytes, perform = function()
    op.call { name = "operation " .. bytes, class = "idempotent", args = { a = bytes },
      perform = function() return bytes end, detail = function() return bytes end }
    world.line(run, bytes)
    return nil, "detail " .. bytes
  end }
  world.ledger(run, bytes)
  world.fail(bytes)
end
return app
]]

local spec_world = [[
local error_ = require "kiln.error"
local json = require "rt.json"
return {
  bytes = %s,
  line = function(run, bytes)
    run:emit { type = "line", stream = "out", text = bytes, name = "m" .. bytes, key = "/#1" }
    run:emit { type = "hint", text = bytes }
  end,
  ledger = function(run, bytes)
    run.store:ledger_intent { token = "t", run = run.id, key = "", provider = "none",
      kind = "machine", name = "name " .. bytes, service = run.service }
    run.store:ledger_live("t", "id " .. bytes, "{}")
    run.store:release_promote { run = run.id, service = run.service, env = run.env,
      cloud = "none", version = "v" .. bytes, image = "i" .. bytes, colour = "blue",
      data = json.encode({ machines = { { name = "m" .. bytes, address = bytes } },
        address = { ip = bytes } }, { bytes = "replace" }) }
  end,
  fail = function(bytes)
    error_.raise {
      kind = "exit", message = "the cloud says " .. bytes, output = bytes .. "\n" .. bytes,
    }
  end,
}
]]

---A cloud whose things have hostile names.
local provider = [[
local bytes = %s
local rows = { { id = "i" .. bytes, name = "garbage " .. bytes, tags = {}, created = 0 } }
return { new = function() return { name = "none", capabilities = {},
  list_owned = function() return {} end, machines = function() return rows end } end }
]]

describe("hostile bytes", function()
  local dir

  setup(function()
    local folder = recipes.folder()
    dir = folder.dir
    assert(fs.mkdir(dir .. "/overlay/stdlib/kiln", { parents = true }))
    assert(fs.mkdir(dir .. "/overlay/providers"))
    local literal = ("%q"):format(everything)
    folder:write("app.lua", recipe)
    folder:write("overlay/stdlib/kiln/spec_world.lua", (spec_world:gsub("%%s", function()
      return literal
    end)))
    folder:write("overlay/providers/none.lua", (provider:gsub("%%s", function()
      return literal
    end)))
  end)

  teardown(function() fs.remove(dir, { recursive = true }) end)

  local function options(argv)
    return { argv = argv, cwd = dir, timeout = 60, env = {
      KILN_PATH = dir .. "/overlay:" .. root, KILN_CLOUD = "none", NO_COLOR = "" } }
  end

  local function kiln(...)
    return assert(proc.run(options { exe, ... }))
  end

  local function both(done, context)
    clean(done.out, context .. ", standard output")
    clean(done.err, context .. ", standard error")
  end

  it("are shown as escapes by run, log, show, runs, status and gc", function()
    local done = kiln("run", "app.lua", "-v")
    assert.matches("the cloud says \\x1b[2J", done.err, 1, true)
    both(done, "run -v")
    local id = json.decode(kiln("runs", "--json").out)[1].id
    for _, words in ipairs { { "log", id }, { "show", id }, { "runs" }, { "status" },
      { "gc", "--no-input" }, { "resume", id }, { "abort", id }, { "show", "no" .. everything },
      { "run", "app.lua", "--word", everything }, { "run", everything },
      { "run", "app.lua", "--" .. everything, "x" } } do
      local argv = {}
      for index, word in ipairs(words) do argv[index] = word:gsub("%z", "") end
      both(kiln(table.unpack(argv)), words[1])
    end
  end)

  it("are escaped in JSON, and read back as they were as far as they are text", function()
    local done = kiln("run", "app.lua", "--json")
    both(done, "run --json")
    local names = 0
    for line in done.out:gmatch "[^\n]+" do
      local event = assert(json.decode(line))
      if event.type == "note" then
        names = names + 1
        assert.is_truthy(event.text:find("\27[2J·\27]0;owned\7", 1, true))
        assert.is_truthy(event.text:find("\xE2\x80\xAEtxt", 1, true))
      end
    end
    assert.equal(1, names)
    local id = json.decode(kiln("runs", "--json").out)[1].id
    for _, words in ipairs { { "runs", "--json" }, { "show", id, "--json" },
      { "log", id, "--json" }, { "status", "--json" }, { "gc", "--json" } } do
      both(kiln(table.unpack(words)), table.concat(words, " "))
    end
  end)

  it("do not reach a terminal beside kiln's own colours and cursor moves", function()
    local pty = exe:match("^(.*)/") .. "/pty"
    local done = assert(proc.run(options { pty, exe, "run", "app.lua", "-v" }))
    local shown = done.out:gsub("\r\n", "\n"):gsub("\npty: .*$", "")
    local found = offence(shown, true)
    assert.is_nil(found, found and ("%q in %q"):format(found, shown))
    assert.is_nil(shown:find("owned\7", 1, true))
  end)
end)
