local fault_proxy = require "spec.support.fault_proxy"
local sshd = require "spec.support.sshd"
local virtual = require "spec.support.virtual"
local fs = require "rt.fs"
local progress = require "kiln.ssh.progress"
local ssh = require "kiln.ssh"
local timer = require "rt.timer"

describe("kiln.ssh.progress", function()
  it("gives the rate of the last seconds and the time that is left", function()
    local _ <close> = virtual()
    local bytes, total = 0, 1000
    local meter = progress.meter(function() return bytes, total end)
    local function after(seconds, more)
      timer.sleep(seconds)
      bytes = bytes + more
      local state = meter()
      return { state.bytes, state.rate, state.left }
    end
    assert.same({ 100, 100.0, 9.0 }, after(1, 100))
    assert.same({ 100, 50.0, 18.0 }, after(1, 0))
    assert.same({ 200, 200 / 3, 12.0 }, after(1, 100))
    for _ = 1, 3 do after(1, 0) end
    assert.same({ 200, 25.0, 32.0 }, after(0, 0)) -- the first call is forgotten
    for _ = 1, 5 do after(1, 0) end
    assert.same({ 200, 0.0 }, after(1, 0)) -- it stands still: nobody knows
    assert.same({ 1000, 160.0, 0 }, after(1, 800))
    total = nil
    assert.is_nil(meter().left)
  end)

  describe("of a transfer that is held up on its way", function()
    local server, proxy, here, there
    local size = 12 * 1024 * 1024

    lazy_setup(function()
      server = sshd.start()
      proxy = fault_proxy.start(server.port, { "delay up 4000000 2500" })
      here, there = server.dir .. "/here", server.dir .. "/there"
      assert(fs.write(here, ("x"):rep(size)))
      assert(fs.mkdir(there))
    end)
    lazy_teardown(function()
      proxy:close()
      server:stop()
    end)

    local function connect(port)
      return ssh.connect { host = server.host, port = port, user = server.user, key = server.key,
        host_key = server.host_key, within = 10 }
    end

    it("is told every second and at the end", function()
      local session <close> = connect(proxy.ports["delay up 4000000 2500"])
      local states = {}
      session:upload(here, there .. "/f", { on_progress = function(state)
        states[#states + 1] = state
      end })
      assert.is_true(#states >= 3)
      local first, last = states[1], states[#states]
      assert.is_true(first.bytes >= 1000000 and first.bytes < size)
      assert.equal(size, first.total)
      assert.is_true(first.rate > 0 and first.left > 0)
      assert.same({ size, size, 0 }, { last.bytes, last.total, last.left })
      states = {}
      session:download(there .. "/f", server.dir .. "/back", { on_progress = function(state)
        states[#states + 1] = state
      end })
      assert.equal(size, states[#states].bytes)
    end)

    it("ends the transfer when the one who is told fails, with that error", function()
      local session <close> = connect(proxy.ports["delay up 4000000 2500"])
      local ok, err = pcall(session.upload, session, here, there .. "/g", {
        on_progress = function() error { kind = "enough", message = "enough" } end,
      })
      assert.is_false(ok)
      assert.equal("enough", err.kind)
      for _ = 1, 250 do
        if not table.concat(assert(fs.list(there)), " "):find("g", 1, true) then break end
        timer.sleep(0.02)
      end
      assert.not_matches("g", table.concat(assert(fs.list(there)), " "), 1, true)
    end)

    it("doesn't hide why a transfer failed", function()
      local session <close> = connect(server.port)
      local ok, err = pcall(session.upload, session, here, "/proc/none/f", {
        on_progress = function() end,
      })
      assert.is_false(ok)
      assert.equal("not_found", err.kind)
      ok, err = pcall(session.upload, session, here, there .. "/h", { timeout = -1,
        on_progress = function() end })
      assert.is_false(ok)
      assert.matches("timeout", tostring(err))
    end)
  end)
end)
