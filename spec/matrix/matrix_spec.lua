local fs = require "rt.fs"
local proc = require "rt.proc"

describe("a run in the matrix", function()
  local function matrix(...)
    return assert(proc.run {
      argv = { "/usr/bin/env", "TMPDIR=/dev/shm", assert(fs.realpath("/proc/self/exe")), "lua",
        "spec/matrix/main.lua", ... },
      timeout = 600,
    })
  end

  it("is killed, and resumes to its end or aborts to its start, wherever that was", function()
    local done = matrix "short"
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches("kill matrix: %d+ resumed, %d+ aborted, %d+ killed twice; 0 failed", done.out)
    io.stdout:write("\n", done.out:match("kill matrix: [^\n]*"), "\n")
  end)

  it("meets a cloud that fails, and ends well, undone, or able to go on", function()
    local done = matrix("faults", "short")
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches("fault matrix: %d+ cases: .*; 0 failed", done.out)
    io.stdout:write("\n", done.out:match("fault matrix: [^\n]*"), "\n")
  end)

  it("undoes what each task of nested blocks made, also while its replay waits", function()
    local done = matrix("nested", "2")
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches("kill matrix: 6 resumed, 6 aborted, 6 killed twice; 0 failed", done.out)
  end)

  it("is killed at one place again by one line", function()
    local done = matrix("swap", "20", "abort")
    assert.equal(0, done.code, done.out .. done.err)
    assert.matches("holds: killed [^\n]+", done.out)
  end)
end)
