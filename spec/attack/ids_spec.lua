---An ordinary user of the host against root's machines: one with the range of ids that useradd
---gives first, one with a range of its own. The host's programs say what such a user can do.
local fs = require "rt.fs"
local machine = require "rt.machine"
local proc = require "rt.proc"
local site = require "spec.support.site"

local exe = "/proc/" .. proc.info().pid .. "/exe"

describe("the ids of root's machines", function()
  local missing = site.why_not()
  local s
  setup(function()
    if missing then return end
    s = site.new()
    assert(proc.run { argv = { "chmod", "755", s.temp } }) -- the site's own folders keep others out
  end)
  teardown(function() if s then assert.equal("", s:close()) end end)

  local function on_machines(name, body)
    it(name, function()
      if missing then pending(missing) return end
      body()
    end)
  end

  ---Runs shell text as root of a user namespace with these host ids, as newuidmap gives it to the
  ---user who owns the range: `$1` is the site's folder.
  local function as_owner_of(first, text)
    return assert(proc.run { argv = { "setpriv", "--reuid", tostring(first), "--regid",
      tostring(first), "--clear-groups", "sh", "-c", text, "sh", s.dir }, timeout = 30 })
  end

  ---Runs the helper where /etc has these subordinate ids; gives its answer and the ids afterwards.
  local function with_ids(lines, verb)
    local done = assert(proc.run { argv = { "unshare", "-m", "--propagation", "private", "sh", "-c",
      [[set -e
      mount -t tmpfs -o mode=755 none /mnt
      mkdir /mnt/up /mnt/work
      mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work /etc
      printf "$1" >/etc/subuid
      printf "$1" >/etc/subgid
      dir=$(mktemp -d)
      printf 'dir\0%s\0' $dir | "$3" __machine "$2" | tr '\0' '\n' || :
      printf 'dir\0%s\0' $dir | "$3" __machine network_down >/dev/null || :
      rm -rf $dir
      echo --
      cat /etc/subuid
      cmp /etc/subuid /etc/subgid
      ls /etc | grep '^sub.id\.' || :
      useradd -M kilnspec-next
      grep kilnspec-next /etc/subuid]], "sh", lines, verb, exe }, timeout = 60 })
    assert.equal("", done.err)
    local answer, files = done.out:match "^(.*)%-%-\n(.*)$"
    return answer, files
  end

  on_machines("are in the files from which users get theirs, and useradd gives others", function()
    local _, files = with_ids("", "network_up")
    assert.equal("kiln-machines:2013265920:67108864\nkilnspec-next:100000:65536\n", files)
    _, files = with_ids("bob:100000:65536\\n", "network_up")
    assert.equal("bob:100000:65536\nkiln-machines:2013265920:67108864\n"
      .. "kilnspec-next:165536:65536\n", files)
  end)

  on_machines("are others where somebody has these", function()
    local _, files = with_ids("bob:2013265920:65536\\n", "network_up")
    assert.matches("\nkiln-machines:1946157056:67108864\n", files, 1, true)
  end)

  on_machines("are taken out of these files when kiln is uninstalled", function()
    local _, files = with_ids("bob:100000:65536\\nkiln-machines:2013265920:67108864\\n"
      .. "eve:300000:65536\\n", "release_ids")
    assert.equal("bob:100000:65536\neve:300000:65536\nkilnspec-next:165536:65536\n", files)
  end)

  on_machines("are refused when somebody was given some of them later", function()
    local answer = with_ids("kiln-machines:2013265920:67108864\\neve:2013331456:65536\\n",
      "network_up")
    assert.matches("denied", answer, 1, true)
    assert.matches("eve:2013331456:65536", answer, 1, true)
  end)

  on_machines("are each machine's own, and none of the first ordinary user's", function()
    s:create "one"
    s:create "two"
    local owners = {}
    for _, name in ipairs { "one", "two" } do
      local pid = fs.read(s.dir .. "/machines/" .. name .. "/pid"):match "%d+"
      local owner = math.tointeger(tonumber(fs.read("/proc/" .. pid .. "/status")
        :match "Uid:%s+(%d+)"))
      assert.is_true(owner >= 2013265920 + 65536 and owner % 65536 == 0)
      owners[#owners + 1] = owner
    end
    assert.is_true(owners[1] ~= owners[2])
  end)

  for _, who in ipairs {
    { "the first ordinary user's ids", 100000 }, { "another range", 700000 },
    { "the ids of a machine, taken by mistake", 2013265920 + 65536 },
    { "the ids of layers, taken by mistake", 2013265920 },
  } do
    on_machines("do not let in who has " .. who[1], function()
      local done = as_owner_of(who[2], [[
        cd /
        cut -c-8 "$1"/id
        cat "$1"/machines/one/disk "$1"/machines/one/meta
        ls "$1"/machines "$1"/images "$1"/machines/one
        ln -s /root "$1"/machines/planted
        ln -s /root "$1"/images/planted
        mv "$1"/machines/one "$1"/machines/other
        echo x > "$1"/router
        echo x > "$1"/id]])
      assert.equal(s.tag .. "\n", done.out) -- it is reached, and shows nothing else
      assert.is_truthy(fs.stat(s.dir .. "/machines/one/disk"))
      assert.same({ "one", "two" }, fs.list(s.dir .. "/machines"))
    end)
  end

  on_machines("take a site of before over, and follow no link planted in it", function()
    local dir = assert(fs.temp_dir())
    assert(proc.run { argv = { "sh", "-c", [[
      cd "$1"
      mkdir victim site site/machines site/images site/machines/old
      echo kept >victim/file
      ln -s "$1"/victim site/machines/name
      ln -s "$1"/victim site/images/name
      ln -s "$1"/victim/file site/machines/old/meta
      mkdir site/machines/old/upper
      chown -hR 100000:100000 site/machines site/images]], "sh", dir } })
    assert.same({}, (assert(machine.list { dir = dir .. "/site" })))
    local seen = assert(proc.run { argv = { "sh", "-c",
      "cd \"$1\"; stat -c '%n %u %a' victim victim/file site/machines site/images; "
      .. "cat victim/file; ls site/machines site/images", "sh", dir } }).out
    assert.equal("victim 0 755\nvictim/file 0 644\nsite/machines 0 700\nsite/images 0 700\nkept\n"
      .. "site/images:\n\nsite/machines:\n", seen)
    assert(proc.run { argv = { "rm", "-rf", dir } })
  end)

  on_machines("change nothing behind a link in the place of a machine", function()
    assert(proc.run { argv = { "sh", "-c", "mkdir \"$1\"/victim; ln -s \"$1\"/victim \"$2\"",
      "sh", s.temp, s.dir .. "/machines/linked" } })
    assert.equal("running", s:create("linked").state)
    assert(machine.destroy { dir = s.dir, name = "linked" })
    assert.same({}, fs.list(s.temp .. "/victim"))
    assert.equal("0\n", assert(proc.run { argv = { "stat", "-c", "%u",
      s.temp .. "/victim" } }).out)
  end)

  on_machines("boots images of before as they are", function()
    assert(proc.run { argv = { "sh", "-c", [[
      cd "$1"/images
      cp -a base old
      rm old/ids
      python3 - old/fs <<'END'
import os, sys
for root, folders, files in os.walk(sys.argv[1]):
  for name in [""] + folders + files:
    path = os.path.join(root, name)
    there = os.lstat(path)
    if there.st_uid >= 2013265920:
      os.lchown(path, there.st_uid - 2013265920 + 100000, there.st_gid - 2013265920 + 100000)
      if not os.path.islink(path):
        os.chmod(path, there.st_mode & 0o7777)
END]], "sh", s.dir }, timeout = 60 })
    local row = s:create("old", "old")
    assert.equal("running\n0 0\n", s:run(row,
      "systemctl is-system-running --wait; stat -c '%u %g' /etc/passwd"))
  end)
end)
