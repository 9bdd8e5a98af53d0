---`kiln.ssh` and `kiln.http` in a recipe: operations of the run, and nothing while a recipe loads.
local fs = require "rt.fs"
local proc = require "rt.proc"
local web = require "spec.support.web"

local exe, tree = assert(fs.realpath("/proc/self/exe")), assert(fs.cwd())

describe("a recipe's own connections and requests", function()
  local dir, env

  local function write(name, text, values)
    assert(fs.write(dir .. "/" .. name, (text:gsub("%u%u+", values or {}))))
  end

  local function kiln(...)
    return assert(proc.run { argv = { exe, ... }, cwd = dir, env = env, timeout = 60 })
  end

  before_each(function()
    dir = assert(fs.temp_dir())
    env = { KILN_PATH = tree, NO_COLOR = "1", PATH = os.getenv "PATH", HOME = dir }
  end)

  after_each(function() assert(fs.remove(dir, { recursive = true })) end)

  it("are refused while the recipe loads, with its line", function()
    local site <close> = web.start(function() return { body = "{}" } end)
    for _, case in ipairs {
      { 'require("kiln.http").get "URL"', "GET" },
      { 'require("kiln.http").download("URL", "file")', "download http" },
      { 'require("kiln.probe").http { url = "URL" }', "probe http" },
      { 'require("kiln.secret").from_command { "touch", "DIR/touched" }', "the command touch" },
      { 'require("kiln.httpd").serve { handle = print }', "kiln.httpd.serve" },
      { 'require("kiln.load").start { url = "URL" }', "kiln.load.start" },
      { 'require("kiln.retry").call(function() error { kind = "timeout" } end)', "cannot wait" },
      { 'require("kiln.op").call { name = "mine", class = "once", perform = print }', "mine" },
    } do
      write("app.lua", "local app = {}\nlocal function go()\n  return " .. case[1]
        .. "\nend\nfunction app.deploy() end\ngo()\nreturn app\n",
        { URL = site.url, PORT = tostring(site.port), DIR = dir })
      for _, words in ipairs { { "run", "app.lua", "--help" }, { "run", "app.lua" } } do
        local done = kiln(table.unpack(words))
        assert.equal(64, done.code, case[1] .. done.out .. done.err)
        assert.matches("kiln: app.lua:[36]: .*loads; move", done.err)
        assert.matches(case[2], done.err, 1, true)
      end
    end
    assert.equal(0, #site.seen)
    assert.is_nil(fs.stat(dir .. "/touched"))
    assert.is_nil(fs.stat(dir .. "/.kiln"))
  end)
end)
