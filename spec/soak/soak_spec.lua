---The short form of the soak; target `soak` is the long one.
local fs = require "rt.fs"
local proc = require "rt.proc"
local local_site = require "spec.support.local_site"

local lacking = local_site.lacking()
local exe = assert(fs.realpath("/proc/self/exe"))

describe("deployments in a row, with helpers and kiln killed", function()
  it("lose no request and leave nothing behind", function()
    if lacking then pending("no local machines here: " .. lacking) return end
    if not proc.getenv "KILN_SPEC_SOAK" then
      pending "NOT RUN: it takes minutes: KILN_SPEC_SOAK=1"
      return
    end
    local done = assert(proc.run {
      argv = { exe, "lua", "spec/soak/main.lua", "2", "52" },
      timeout = 600,
    })
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches("kiln killed [1-9]", done.out)
    assert.matches("helpers killed [1-9]", done.out)
    io.stdout:write("\n", done.out:match("soak: [^\n]*"), "\n")
  end)
end)
