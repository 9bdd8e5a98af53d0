---The guard of a command on a machine: it runs once under its key, goes on without us, and keeps
---its output and status; connecting again under the same key reads the rest.
---
---State on the machine: /var/lib/kiln/guard/<key>/ with in, out, err, pid, boot, status. The claim
---is a directory, since mkdir is atomic. Needs sh, coreutils and setsid (util-linux).
local sh = require "kiln.sh"

local guard = {}

---Exit statuses of the guard itself, above what commands use.
guard.interrupted = 251 -- the machine restarted, or the command was killed with its keeper
guard.unstarted = 252   -- claimed, but its keeper died before it started

local script = [[
set -u
umask 077
d=/var/lib/kiln/guard/$1
mkdir -p "$d"
if [ ! -e "$d/claim" ]; then cat >"$d/in.$$" && mv "$d/in.$$" "$d/in"; fi
if mkdir "$d/claim" 2>/dev/null; then
  : >"$d/out"; : >"$d/err"
  cat /proc/sys/kernel/random/boot_id >"$d/boot"
  setsid sh -c '
    echo $$ >"$0/pid.part"; mv "$0/pid.part" "$0/pid"
    umask 022
    sh -c "$1" <"$0/in" >"$0/out" 2>"$0/err"
    echo $? >"$0/status.part"; sync "$0/out" "$0/err"; mv "$0/status.part" "$0/status"
  ' "$d" "$2" </dev/null >/dev/null 2>&1 &
fi
n=0
while [ ! -e "$d/pid" ]; do
  n=$((n + 1)); [ $n -gt 100 ] && exit 252
  sleep 0.02
done
pid=$(cat "$d/pid")
alive() {
  [ "$(cat "$d/boot")" = "$(cat /proc/sys/kernel/random/boot_id)" ] && kill -0 "$pid" 2>/dev/null
}
if alive; then
  tail -s 0.02 --pid="$pid" -f -c +1 "$d/out" 2>/dev/null &
  tail -s 0.02 --pid="$pid" -f -c +1 "$d/err" 2>/dev/null >&2 &
  wait
else
  cat "$d/out"; cat "$d/err" >&2
fi
[ -e "$d/status" ] || exit 251
exit "$(cat "$d/status")"
]]

---Gives the shell command that runs `command` once under `key`, or joins the one that runs.
---@param key string lower-case letters, digits, dashes
---@param command string shell text
---@return string
function guard.command(key, command)
  return sh.join { "sh", "-c", script, "kiln-guard", key, command }
end

---Gives the shell command that ends what runs under `key`, with its children.
---@param key string
---@return string
function guard.stop(key)
  return ([[pid=$(cat %s 2>/dev/null) && kill -TERM -- "-$pid"; true]])
    :format(sh.quote("/var/lib/kiln/guard/" .. key .. "/pid"))
end

return guard
