---A file above 4 GiB with holes: there, cut off behind 4 GiB and gone on with, and back. `check`
---takes a small one through the same; the large one is the target `big-file`.
local fault_proxy = require "spec.support.fault_proxy"
local sshd = require "spec.support.sshd"
local fs = require "rt.fs"
local ssh = require "rt.ssh"
local timer = require "rt.timer"
local transfer = require "rt.transfer"

local megabytes = os.getenv "KILN_SPEC_BIG" == "1" and 5 * 1024 or 160

describe(("a file of %d MB with holes"):format(megabytes), function()
  local dir, server, sum, blocks
  local size = megabytes << 20

  local function stat(format, name)
    return tonumber(sshd.output(("stat -c %s %s/%s"):format(format, dir, name)))
  end

  lazy_setup(function()
    dir = assert(fs.temp_dir())
    server = sshd.start()
    -- A megabyte at the start, one behind nine tenths, one byte at the end.
    sshd.output(([[cd %s && head -c 1M /dev/urandom >big && truncate -s %d big &&
      head -c 1M /dev/urandom |
        dd of=big bs=64K seek=%d oflag=seek_bytes conv=notrunc status=none &&
      printf x | dd of=big bs=1 seek=%d conv=notrunc 2>/dev/null]]):format(dir, size,
      (size * 9 // 10) & ~0xffff, size - 1))
    sum = sshd.output(("sha256sum < %s/big"):format(dir)):sub(1, 64)
    blocks = stat("%b", "big")
  end)
  lazy_teardown(function()
    server:stop()
    assert(fs.remove(dir, { recursive = true }))
  end)

  local function arrived(done, name)
    assert.equal(sum, done.sha256)
    assert.equal(sum, sshd.output(("sha256sum < %s/%s"):format(dir, name)):sub(1, 64))
    assert.equal(size, stat("%s", name))
    assert.is_true(stat("%b", name) < blocks + 4096, name .. " has no holes")
  end

  it("arrives whole and with its holes, there and back", function()
    local session <close> = assert(ssh.connect(server:options()))
    local function move(way, source, target)
      local done = assert(way(session, { source = dir .. source, target = dir .. "/" .. target }))
      arrived(done, target)
    end
    move(transfer.upload, "/big", "there")
    move(transfer.download, "/there", "back")
  end)

  it("goes on where a cut behind nine tenths left it", function()
    local fault = ("cut up %d"):format(size // 100 * 95)
    local proxy <close> = fault_proxy.start(server.port, { fault })
    local options = { source = dir .. "/big", target = dir .. "/there", resume = true }
    do
      local session <close> = assert(ssh.connect(server:options { port = proxy.ports[fault] }))
      local done, err = transfer.upload(session, options)
      assert.is_nil(done)
      assert.equal("unreachable", err.kind)
    end
    while sshd.output(("pgrep -f %s/[t]here"):format(dir)) ~= "" do -- it writes what had arrived
      timer.sleep(0.05)
    end
    local part = assert(fs.glob(dir .. "/there.kiln-part-*"))[1]
    local left = fs.stat(part).size
    if left > size then -- several channels wrote: how much is whole stands behind the file's end
      left = tonumber(sshd.output("tail -n 1 " .. part))
    end
    local session <close> = assert(ssh.connect(server:options()))
    local done = assert(transfer.upload(session, options))
    assert.equal(left, done.resumed)
    assert.is_true(done.resumed > size // 100 * 85, done.resumed)
    arrived(done, "there")
  end)
end)
