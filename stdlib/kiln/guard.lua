---The guard of a command on a machine: it runs once under its key, goes on without us, and keeps
---its output and status; connecting again under the same key reads the rest.
---
---State on the machine: /var/lib/kiln/guard/<key>/ with in, out, err, boot, pid, status; of users
---other than root, ~/.local/state/kiln/guard/<key>/. The claim is a directory, since mkdir is
---atomic; it and what stands before it are on the disk before the command begins, so a machine that
---loses its power in the middle does not run it again. Needs sh, coreutils and setsid (util-linux),
---no systemd.
local sh = require "kiln.sh"

local guard = {}

---Exit statuses of the guard itself, above what commands use, and what they say of the command.
guard.ends = {
  [250] = "was killed on the machine, or its disk was full; whether it took effect is unknown",
  [251] = "was cut off by a restart of the machine; whether it took effect is unknown",
  [252] = "was claimed by a process that died before it began; it did not run",
  [253] = "did not run: its input did not arrive whole, or the machine could not keep it",
}

-- A restart is told by the boot's id and, in a container, by when its PID 1 began; a process by its
-- number and when it began (proc_pid_stat(5), field 22).
local folder = [[
if [ "$(id -u)" = 0 ]; then d=/var/lib; else eval "d=~$(id -un)/.local/state"; fi
d=$d/kiln/guard/$1
]]

local script = "set -u\numask 077\n" .. folder .. [[
began='began() { s=$(cat "/proc/$1/stat" 2>/dev/null) || return; set -- ${s##*) }; echo "${20}"; }'
eval "$began"
boot=$(cat /proc/sys/kernel/random/boot_id).$(began 1)
mkdir -p "$d" || exit 253
if [ ! -e "$d/claim" ]; then
  if cat >"$d/in.$$" && [ "$(wc -c <"$d/in.$$")" -eq "$3" ] && echo "$boot" >"$d/boot.$$"; then
    mv "$d/in.$$" "$d/in"; mv "$d/boot.$$" "$d/boot"
  else
    rm -f "$d/in.$$" "$d/boot.$$"
    [ -e "$d/claim" ] || exit 253
  fi
fi
if mkdir "$d/claim" 2>/dev/null; then
  : >"$d/out"; : >"$d/err"
  sync "$d/in" "$d/boot" "$d"
  setsid sh -c '
    eval "$2"
    echo "$$ $(began $$)" >"$0/pid.part"; mv "$0/pid.part" "$0/pid"
    umask 022
    sh -c "$1" <"$0/in" >"$0/out" 2>"$0/err"
    echo $? >"$0/status.part" && sync "$0/out" "$0/err" "$0/status.part" &&
      mv "$0/status.part" "$0/status"
  ' "$d" "$2" "$began" </dev/null >/dev/null 2>&1 &
fi
n=0
while [ ! -e "$d/pid" ]; do
  [ "$(cat "$d/boot")" = "$boot" ] || exit 251
  n=$((n + 1)); [ $n -gt 500 ] && exit 252
  sleep 0.02
done
read -r pid start <"$d/pid"
lives() { [ "$(cat "$d/boot")" = "$boot" ] && [ "$(began "$pid")" = "$start" ]; }
if [ ! -e "$d/status" ] && lives; then
  tail -s 0.02 --pid="$pid" -f -c +1 "$d/out" 2>/dev/null &
  tail -s 0.02 --pid="$pid" -f -c +1 "$d/err" >&2 2>/dev/null &
  wait
else
  cat "$d/out"; cat "$d/err" >&2
fi
[ -e "$d/status" ] && exit "$(cat "$d/status")"
[ "$(cat "$d/boot")" = "$boot" ] && exit 250
exit 251
]]

---Gives the shell command that runs `command` once under `key`, or joins the one that runs.
---@param key string lower-case letters, digits, dashes
---@param command string shell text
---@param input? integer bytes of its standard input (0); it does not begin with fewer
---@return string
function guard.command(key, command, input)
  return sh.join { "sh", "-c", script, "kiln-guard", key, command, input or 0 }
end

---Gives the shell command that ends what runs under `key`, with its children: SIGTERM, and SIGKILL
---after two seconds.
---@param key string
---@return string
function guard.stop(key)
  return sh.join { "sh", "-c", folder .. [[
read -r pid start <"$d/pid" || exit 0
kill -s TERM -- "-$pid" 2>/dev/null
for n in 1 2 3 4 5 6 7 8 9 10; do
  kill -s 0 -- "-$pid" 2>/dev/null || exit 0
  sleep 0.2
done
kill -s KILL -- "-$pid" 2>/dev/null; true]], "kiln-guard", key }
end

---Gives the shell command that removes what is kept of a command whose outcome is in the journal.
---@param key string
---@return string
function guard.forget(key)
  return sh.join { "sh", "-c", folder .. 'rm -rf -- "$d"', "kiln-guard", key }
end

return guard
