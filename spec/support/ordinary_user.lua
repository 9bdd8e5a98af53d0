---Runs programs as a user who is nobody on this host: the account, its ids and what it may use are
---there in a mount namespace of the program alone, so nothing of it is left when that is killed.
---Two things cannot be of that kind and are named by this process, for the next run to remove: the
---user's home and its control group.
local fs = require "rt.fs"
local proc = require "rt.proc"

local ordinary_user = { uid = 64711, name = "kilnspec", first = 700000 }

local homes = "/var/lib/kiln-user-"

---What an administrator grants, in shell. `$1` is a folder for files of the namespace, `$2` the
---control group's folder; each grant can be left out, as hosts do.
local grants = {
  subids = [[echo "$name:$first:65536" > $1/subuid; cp $1/subuid $1/subgid]],
  newuidmap = [[:]],
  tun = [[mknod $1/tun c 10 200; chmod 666 $1/tun; mount --bind $1/tun /dev/net/tun]],
  cgroup = [[
    mkdir -p $2/shell
    chown -R $uid:$uid $2
    echo $$ > $2/shell/cgroup.procs]],
}

local refusals = {
  subids = [[: > $1/subuid; : > $1/subgid]],
  newuidmap = [[: > $1/none
    for program in newuidmap newgidmap getsubids; do mount --bind $1/none /usr/bin/$program; done]],
  tun = [[mknod $1/tun c 10 200; chmod 600 $1/tun; mount --bind $1/tun /dev/net/tun]],
  cgroup = [[echo $$ > $(dirname $2)/cgroup.procs]],
}

local frame = [[
set -eu
uid=%d name=%s first=%d
mount -t tmpfs -o mode=755 none $1
cp /etc/passwd /etc/group $1
echo "$name:x:$uid:$uid::$3:/bin/sh" >> $1/passwd
echo "$name:x:$uid:" >> $1/group
%s
for file in passwd group subuid subgid; do
  [ -e /etc/$file ] || : > /etc/$file
  mount --bind $1/$file /etc/$file
done
home=$3
shift 3
exec setpriv --reuid $uid --regid $uid --clear-groups --inh-caps=-all env -i \
  HOME=$home USER=$name PATH=/usr/local/bin:/usr/bin:/bin "$@"
]]

---Where the host has its cgroup2 hierarchy.
local function hierarchy()
  for _, path in ipairs { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" } do
    if fs.stat(path .. "/cgroup.controllers") then return path end
  end
end

---Says why there can be no such user here, nil when there can.
---@return string?
function ordinary_user.why_not()
  if proc.info().uid ~= 0 then return "an ordinary user is made by root" end
  if not hierarchy() then return "no cgroup2 hierarchy is mounted" end
end

---@class spec.User
---@field home string
---@field group string
local User = {}
User.__index = User

local function kill_group(group)
  if not fs.stat(group) then return end
  assert(proc.run { argv = { "sh", "-c", [[
    echo 1 > $0/cgroup.kill
    while grep -q "populated 1" $0/cgroup.events; do sleep 0.05; done
    find $0 -depth -type d -exec rmdir {} \;]], group }, timeout = 30 })
end

local function remove(name)
  kill_group(hierarchy() .. "/kiln-user-" .. name)
  assert(proc.run { argv = { "rm", "-rf", "--one-file-system", homes .. name } })
end

---Removes what runs that were killed have left.
local function sweep()
  for _, dir in ipairs(fs.glob(homes .. "*") or {}) do
    local name = dir:sub(#homes + 1)
    local pid, since = name:match("^(%d+)%-(%d+)$")
    if pid and not proc.alive(math.tointeger(tonumber(pid)), math.tointeger(tonumber(since))) then
      remove(name)
    end
  end
end

---Makes the user's home.
---@async
---@return spec.User
function ordinary_user.new()
  sweep()
  local info = proc.info()
  local name = ("%d-%d"):format(info.pid, info.start_time)
  local self = setmetatable({
    key = name, home = homes .. name, group = hierarchy() .. "/kiln-user-" .. name,
  }, User)
  assert(proc.run { argv = { "install", "-d", "-m", "700", "-o", tostring(ordinary_user.uid), "-g",
    tostring(ordinary_user.uid), self.home } })
  return self
end

---Runs a program as the user; what `without` names is not granted.
---@async
---@param argv string[]
---@param opts? { without: table<string, boolean>?, env: table<string, string>?, timeout: number? }
---@return table done as rt.proc
function User:run(argv, opts)
  opts = opts or {}
  local steps = {}
  for _, grant in ipairs { "subids", "newuidmap", "tun", "cgroup" } do
    local refused = opts.without and opts.without[grant]
    steps[#steps + 1] = (refused and refusals or grants)[grant]
  end
  local words = {
    "unshare", "-m", "--propagation", "private", "sh", "-c",
    frame:format(ordinary_user.uid, ordinary_user.name, ordinary_user.first,
      table.concat(steps, "\n")),
    "sh", "/mnt", self.group, self.home,
  }
  for name, value in pairs(opts.env or {}) do words[#words + 1] = name .. "=" .. value end
  table.move(argv, 1, #argv, #words + 1, words)
  return assert(proc.run { argv = words, timeout = opts.timeout or 120 })
end

---What the user's control group has below the shell's: "" when nothing is left of machines. Who has
---ended but is not taken notice of yet by the host's PID 1 does not count.
function User:traces()
  return assert(proc.run { argv = { "sh", "-c", [[
    [ -d "$0" ] || exit 0
    find "$0"/shell -mindepth 1 -type d
    for pid in $(cat $(find "$0" -name cgroup.procs)); do
      [ ! -e /proc/$pid/exe ] || cat /proc/$pid/comm
    done; true]], self.group } }).out
end

---Ends everything of the user.
function User:close() remove(self.key) end

return ordinary_user
