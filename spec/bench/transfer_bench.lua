---How fast files travel, beside scp and rsync, to an sshd on loopback with its default settings.
---Run: `build/release/kiln lua spec/bench/transfer_bench.lua [megabytes] [files] [times] [place]`;
---place is a folder for both sides, "/dev/shm" to leave the disk out of it
local exec = require "rt.exec"
local fs = require "rt.fs"
local proc = require "rt.proc"
local ssh = require "rt.ssh"
local timer = require "rt.timer"
local transfer = require "rt.transfer"
local sshd = require "spec.support.sshd"

local megabytes, files = tonumber(arg[1]) or 1024, tonumber(arg[2]) or 5000
local times = tonumber(arg[3]) or 3

local function installed(program)
  return assert(proc.run { argv = { "sh", "-c", "command -v " .. program } }).code == 0
end

local server <close> = sshd.start()
local place = arg[4] and sshd.output("mktemp -d " .. sshd.quote(arg[4]) .. "/kiln-bench.XXXXXX")
local _ <close> = setmetatable({}, { __close = function()
  if place then assert(fs.remove(place, { recursive = true })) end
end })
local dir = (place or server.dir) .. "/data"
assert(fs.mkdir(dir .. "/tree", { parents = true }))
sshd.write(dir .. "/key", sshd.read(server.dir .. "/user"))
os.execute("chmod 600 " .. dir .. "/key")
sshd.write(dir .. "/known", ("[%s]:%d %s\n"):format(server.host, server.port, server.host_key))
sshd.output(("head -c %dM /dev/urandom > %s/big"):format(megabytes, dir))
for index = 1, files do
  if index % 100 == 1 then assert(fs.mkdir(("%s/tree/%02d"):format(dir, index // 100))) end
  sshd.write(("%s/tree/%02d/%d"):format(dir, (index - 1) // 100, index),
    ("%d "):format(index):rep(900):sub(1, 4096))
end

sshd.output(("tar -C %s/tree -cf %s/tree.tar ."):format(dir, dir))
local client = ("-o BatchMode=yes -o UserKnownHostsFile=%s/known -o IdentitiesOnly=yes -i %s/key")
  :format(dir, dir)

local function command(text)
  return function(target)
    local done = assert(proc.run { argv = { "sh", "-c", text:format(target) }, timeout = 600 })
    assert(done.code == 0, done.err)
  end
end

---A command that extracts into a folder, which it finds there.
local function tree_command(text)
  local extract = command(text)
  return function(target)
    assert(fs.mkdir(target))
    extract(target)
  end
end

local session -- connects anew for every line, as the others do

local function with_session(body)
  return function(target)
    session = assert(ssh.connect(server:options { timeout = 30 }))
    body(target)
    session:close()
  end
end

---Median seconds of some rounds; what was sent is removed after each.
local function measure(action)
  local seconds = {}
  for round = 1, times do
    local target = ("%s/there-%d"):format(dir, round)
    local before = timer.now()
    action(target)
    seconds[round] = timer.now() - before
    assert(fs.remove(target, { recursive = true }))
  end
  table.sort(seconds)
  return seconds[times // 2 + 1]
end

local function group(title, rows, rate)
  local base
  print(title)
  for _, row in ipairs(rows) do
    if installed(row.needs) then
      local seconds = measure(row.action)
      base = base or seconds
      print(("  %-34s %8.2f s %7.2fx %10s"):format(row[1], seconds, seconds / base, rate(seconds)))
    else
      print(("  %-34s not installed"):format(row[1]))
    end
  end
end

local scp = ("scp -q -P %d %s"):format(server.port, client)
local rsync = ("rsync -e 'ssh -p %d %s'"):format(server.port, client)
local host = server.user .. "@" .. server.host

group(("one file of %d MB, checked by sha256 there (kiln only)"):format(megabytes), {
  { "scp", needs = "scp", action = command(("%s %s/big %s:%%s"):format(scp, dir, host)) },
  { "rsync", needs = "rsync",
    action = command(("%s -W %s/big %s:%%s"):format(rsync, dir, host)) },
  { "kiln upload", needs = "sh", action = with_session(function(target)
    assert(transfer.upload(session, { source = dir .. "/big", target = target }))
  end) },
  { "kiln download", needs = "sh", action = with_session(function(target)
    assert(transfer.download(session, { source = dir .. "/big", target = target }))
  end) },
}, function(seconds) return ("%.0f MB/s"):format(megabytes / seconds) end)

group(("%d files of 4 KB"):format(files), {
  { "scp -r", needs = "scp", action = command(("%s -r %s/tree %s:%%s"):format(scp, dir, host)) },
  { "rsync -a", needs = "rsync",
    action = command(("%s -a %s/tree/ %s:%%s"):format(rsync, dir, host)) },
  { "kiln upload", needs = "sh", action = with_session(function(target)
    assert(transfer.upload_tree(session, { source = dir .. "/tree", target = target }))
  end) },
  { "tar c | ssh tar x (no check)", needs = "ssh", action = tree_command(
    ("tar -C %s/tree -cf - . | ssh -p %d %s %s tar -C %%s -xf -"):format(dir, server.port, client,
    host)) },
  { "floor: tar x here, from a file", needs = "tar",
    action = tree_command(("tar -C %%s -xf %s/tree.tar"):format(dir)) },
}, function(seconds) return ("%.0f/s"):format(files / seconds) end)

group("1,000 commands `true`, one after the other, on a kept connection", {
  { "ssh with ControlMaster", needs = "ssh", action = function(target)
    assert(fs.mkdir(target))
    command(([[set -e; ssh -p %d %s -o ControlMaster=yes -o ControlPath=%%s/c -f -N %s
      for i in $(seq 1000); do ssh -o ControlPath=%s/c %s true; done
      ssh -o ControlPath=%s/c -O exit %s]]):format(server.port, client, host, target, host, target,
      host))(target)
  end },
  { "kiln", needs = "sh", action = with_session(function(target)
    assert(fs.mkdir(target))
    for _ = 1, 1000 do assert(exec.run(session, "true")) end
  end) },
}, function(seconds) return ("%.0f/s"):format(1000 / seconds) end)
