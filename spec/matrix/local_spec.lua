---The short form of the kill matrix on local machines; target `matrix-local` is the long one.
local fs = require "rt.fs"
local proc = require "rt.proc"
local local_site = require "spec.support.local_site"

local lacking = local_site.lacking()
local exe = assert(fs.realpath("/proc/self/exe"))

describe("a run on local machines", function()
  it("ended by SIGKILL, resumes to its end or aborts to its start", function()
    if lacking then pending("no local machines here: " .. lacking) return end
    local done = assert(proc.run {
      argv = { exe, "lua", "spec/matrix/local.lua", "short" },
      timeout = 600,
    })
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches("local kill matrix: 1 resumed, 2 aborted, .*; 0 failed", done.out)
    io.stdout:write("\n", done.out:match("local kill matrix: [^\n]*"), "\n")
  end)
end)
