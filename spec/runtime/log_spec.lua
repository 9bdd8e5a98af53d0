local fs = require "rt.fs"
local log = require "rt.log"
local proc = require "rt.proc"

---What a kiln of its own writes to standard error when it runs a Lua text.
local function logged(text, env)
  local dir <close> = setmetatable({ path = assert(fs.temp_dir()) },
    { __close = function(self) fs.remove(self.path, { recursive = true }) end })
  assert(fs.write(dir.path .. "/program.lua", 'local log = require "rt.log"\n' .. text))
  local result = assert(proc.run {
    argv = { proc.info().exe, "lua", dir.path .. "/program.lua" }, env = env or {},
  })
  assert.equal("", result.out)
  return result.err
end

describe("rt.log", function()
  local all = 'log.debug "d" log.info "i" log.warn "w" log.error "e"'

  it("writes warnings and errors to standard error", function()
    assert.equal("kiln: warn: w\nkiln: error: e\n", logged(all))
  end)

  it("takes the level from KILN_LOG, and from the program", function()
    assert.equal("kiln: debug: d\nkiln: info: i\nkiln: warn: w\nkiln: error: e\n",
      logged(all, { KILN_LOG = "debug" }))
    assert.equal("", logged(all, { KILN_LOG = "off" }))
    assert.equal("kiln: warn: w\nkiln: error: e\n", logged(all, { KILN_LOG = "nonsense" }))
    assert.equal("kiln: error: e\n", logged('log.level "error" ' .. all))
    assert.equal("warn", log.level())
    assert.has_error(function() log.level "loud" end)
  end)

  it("lets no text rewrite the terminal", function()
    assert.equal("kiln: error: a\\x1b[2Jb\\x0d\\x00\\x7fc\td\n",
      logged 'log.error "a\\27[2Jb\\r\\0\\127c\\td"')
  end)

  it("indents the further lines of a text", function()
    assert.equal("kiln: error: one\n  two\n", logged 'log.error "one\\ntwo"')
  end)

  it("sends every text through the filter", function()
    assert.equal("kiln: error: password <secret>\n", logged [[
      log.filter(function(text) return (text:gsub("hunter2", "<secret>")) end)
      log.error "password hunter2"
    ]])
    assert.equal("kiln: error: hunter2\n", logged [[
      log.filter(function() return "x" end)
      log.filter(nil)
      log.error "hunter2"
    ]])
  end)

  it("withholds a text whose filter fails", function()
    for _, filter in ipairs { 'error "no"', "return nil", "return 3" } do
      local text = logged("log.filter(function() " .. filter .. " end) log.error 'hunter2'")
      assert.is_nil(text:find("hunter2", 1, true))
      assert.matches("withheld", text, 1, true)
    end
  end)

  it("raises on misuse", function()
    assert.has_error(function() log.error(nil) end)
    assert.has_error(function() log.filter "x" end)
  end)
end)
