---Two kilns with the same folder, which is not the same, or is seen from another PID namespace.
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local site = require "spec.support.site"

local exe = "/proc/" .. proc.info().pid .. "/exe"

describe("a site in use", function()
  local missing = site.why_not()
  local s, kiln
  setup(function()
    if missing then return end
    s, kiln = site.new(), assert(fs.realpath(exe))
    assert(machine.network_up { dir = s.dir })
  end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  ---Runs verbs of the helper in namespaces of their own, after `before`; gives their answers.
  local function elsewhere(namespaces, before, ...)
    local words = { "unshare", "--propagation", "private", "--kill-child", "-f" }
    for word in namespaces:gmatch "%S+" do words[#words + 1] = word end
    table.move({ "sh", "-c", before .. [[

      kiln=$1 dir=$2
      shift 2
      for verb; do
        printf 'dir\0%s\0' "$dir" | "$kiln" __machine $verb | tr '\0' ' '
        echo "$verb done"
      done
      cat "$dir"/id]], "sh", kiln, s.dir, ... }, 1, 6 + select("#", ...), #words + 1, words)
    return assert(proc.run { argv = words, timeout = 60 }).out
  end

  local function link() return fs.stat("/sys/class/net/kl-" .. s.tag) ~= nil end

  it("is not taken over from another PID namespace", function()
    if missing then pending(missing) return end
    local seen = elsewhere("-m -p --mount-proc", "", "network_up", "network_down")
    assert.matches("^error denied .*another PID namespace.*error denied", seen)
    assert.is_true(link())
    assert(machine.network_up { dir = s.dir })
  end)

  it("is another one at the same path of another mount namespace", function()
    if missing then pending(missing) return end
    local seen = elsewhere("-m", 'mount -t tmpfs -o mode=755 none "$2"', "network_up",
      "network_down")
    assert.matches("machine_net 10%.199%..*network_up done\n.*network_down done\n", seen)
    assert.is_nil(seen:find(s.tag, 1, true))
    assert.is_true(link())
  end)
end)
