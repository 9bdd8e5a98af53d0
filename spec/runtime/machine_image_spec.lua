---Images of real machines, in a site of their own; skipped, with the reason, where there are none.
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local site = require "spec.support.site"
local snapshot = require "rt.snapshot"

describe("rt.snapshot", function()
  local missing = site.why_not()
  local s, id

  setup(function() if not missing then s = site.new() end end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  local function freeze(name, image)
    return snapshot.freeze { dir = s.dir, name = name, image = image, data = "about " .. image }
  end

  ---A file of an image's own layer: nil when it has none or marks it as removed.
  local function layer(image, path)
    local stat = fs.stat(("%s/images/%s/fs/%s"):format(s.dir, image, path))
    return stat and stat.type ~= "char" and stat or nil
  end

  on_machines("freezes only what is switched off", function()
    local row = s:create "builder"
    -- Where a link of the machine must not lead: a file that its user's number may remove.
    assert(proc.run { argv = { "sh", "-c", ("cd %s && chmod 755 . && mkdir theirs && "
      .. "echo x > theirs/kept && chown -R 2013265920 theirs"):format(s.temp) } })
    id = s:run(row, "rm -rf /var/lib/dhcp; ln -s " .. s.temp .. "/theirs /var/lib/dhcp;" .. [[
      echo baked > /opt/baked; rm -r /usr/share/zoneinfo/Asia; mkdir /usr/share/zoneinfo/Asia
      echo x > /tmp/x; echo x > /var/tmp/x
      cat /etc/machine-id]])
    assert.equal(33, #id)
    local _, err = freeze("builder", "one")
    assert.equal("invalid", err.kind)
    assert(machine.power_off { dir = s.dir, name = "builder" })
    local image = assert(freeze("builder", "one"))
    assert.equal(64, #image.digest)
    assert.is_true(image.bytes > 1000)
    assert.equal("about one", image.data)
    assert.same(image, assert(freeze("builder", "one")))
    assert(machine.destroy { dir = s.dir, name = "builder" })
  end)

  on_machines("keeps no identity of the machine, and follows none of its links", function()
    assert.equal("x\n", fs.read(s.temp .. "/theirs/kept"))
    assert.is_truthy(layer("one", "opt/baked"))
    assert.equal(0, layer("one", "etc/machine-id").size)
    for _, gone in ipairs {
      "etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys", "var/lib/cloud/instance",
      "var/lib/cloud/seed", "etc/hostname", "etc/resolv.conf", "var/tmp/x", "tmp/x",
    } do
      assert.is_nil(layer("one", gone), gone)
    end
  end)

  on_machines("starts any number of machines, each with an identity of its own", function()
    local a, b = s:create("a", "one"), s:create("b", "one")
    local seen = {}
    for _, row in ipairs { a, b } do
      local out = s:run(row, "cat /etc/machine-id; cloud-init status --wait >/dev/null; "
        .. "cloud-init status; "
        .. "cat /opt/baked; ls /usr/share/zoneinfo/Asia | wc -l; hostname")
      local own, rest = out:match("^(%x+)\n(.*)$")
      assert.equal("status: done\nbaked\n0\n" .. row.name .. "\n", rest)
      assert.is_nil(seen[own])
      seen[own] = true
    end
    assert.is_nil(seen[id:sub(1, 32)])
  end)

  on_machines("stands an image on another, and removes none that is used", function()
    local _, err = snapshot.remove { dir = s.dir, image = "one" }
    assert.equal("exists", err.kind)
    assert.matches("machine [ab]$", err.message)
    assert(machine.destroy { dir = s.dir, name = "b" })
    s:run(s:row "a", "echo more > /opt/more")
    assert(machine.power_off { dir = s.dir, name = "a" })
    assert(freeze("a", "two"))
    assert(machine.destroy { dir = s.dir, name = "a" })
    _, err = snapshot.remove { dir = s.dir, image = "one" }
    assert.matches("image two$", err.message)
    local row = s:create("c", "two")
    assert.equal("baked\nmore\n", s:run(row, "cat /opt/baked /opt/more"))
  end)

  on_machines("has the machine or the image whole when a freeze is killed", function()
    assert(machine.power_off { dir = s.dir, name = "c" })
    local request = ""
    for key, value in pairs { dir = s.dir, name = "c", image = "cut" } do
      request = request .. key .. "\0" .. value .. "\0"
    end
    for _, seconds in ipairs { 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14 } do
      proc.run {
        argv = { "timeout", "-s", "KILL", tostring(seconds),
          "/proc/" .. proc.info().pid .. "/exe", "__machine", "freeze" }, stdin = request,
      }
    end
    local image = assert(freeze("c", "cut"))
    assert.is_truthy(layer("cut", "etc/machine-id"))
    local names = {}
    for _, row in ipairs(assert(snapshot.list { dir = s.dir })) do names[#names + 1] = row.name end
    table.sort(names)
    assert.same({ "base", "cut", "one", "two" }, names)
    assert.equal(64, #image.digest)
    assert(machine.destroy { dir = s.dir, name = "c" })
    assert.equal("baked\n", s:run(s:create("d", "cut"), "cat /opt/baked"))
    assert(machine.destroy { dir = s.dir, name = "d" })
  end)

  on_machines("leaves nothing of removed images", function()
    assert(fs.mkdir(s.dir .. "/images/.cut.part")) -- as a freeze that was killed has it
    for _, image in ipairs { "cut", "two", "one" } do
      assert(snapshot.remove { dir = s.dir, image = image })
      assert(snapshot.remove { dir = s.dir, image = image })
    end
    assert.same({ "base" }, fs.list(s.dir .. "/images"))
  end)
end)
