local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local snapshot = require "rt.snapshot"

describe("rt.snapshot", function()
  it("refuses wrong options before anything happens", function()
    assert.has_error(function() snapshot.list {} end, "option 'dir' is missing")
    assert.has_error(function() snapshot.freeze { dir = "/x", name = "m" } end,
      "option 'image' is missing")
    assert.has_error(function() snapshot.remove { dir = "/x", image = "i", force = true } end,
      "unknown option 'force'")
  end)

  if proc.info().uid ~= 0 then
    pending "works on a site of its own: needs root"
    return
  end

  local dir
  before_each(function() dir = assert(fs.temp_dir()) end)
  after_each(function()
    assert.is_nil(fs.stat(dir .. "/router"), "a question starts no network")
    assert(machine.network_down { dir = dir })
    assert(fs.remove(dir, { recursive = true }))
  end)

  it("has nothing in a new site", function()
    assert.same({}, (assert(snapshot.list { dir = dir })))
    assert.is_true(snapshot.remove { dir = dir, image = "none" })
  end)

  it("tells what is not there and what is wrong", function()
    local row, err = snapshot.freeze { dir = dir, name = "none", image = "image" }
    assert.is_nil(row)
    assert.equal("not_found", err.kind)
    assert.equal("invalid",
      select(2, snapshot.freeze { dir = dir, name = "m", image = "../image" }).kind)
    assert.equal("invalid", select(2, snapshot.remove { dir = dir, image = ".." }).kind)
  end)
end)
