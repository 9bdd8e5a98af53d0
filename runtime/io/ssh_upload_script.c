// What runs on the host for the upload of a file.
#include "io/ssh_upload_script.h"

#include "io/file_source.h"
#include "io/ssh_transfer_internal.h"

_Static_assert(KL_FILE_PIECE *KL_FILE_SLICE == 4194304, "the script's slices are the source's");

// `slices WAY`: writes each slice of 4 MB of this channel where it belongs, a process each, and
// says on standard output which one, how much of it came, and what was wrong. dd seeks from where
// descriptor 5 is.
#define SLICES                                                                                     \
    "slice=4194304 nl='\n'\n"                                                                      \
    "slices() {\n"                                                                                 \
    "  i=$1 n=$slice\n"                                                                            \
    "  at=$((there + i * n))\n"                                                                    \
    "  by=$at\n"                                                                                   \
    "  while [ \"$at\" -lt \"$size\" ]; do\n"                                                      \
    "    [ $((size - at)) -ge \"$n\" ] || n=$((size - at))\n"                                      \
    "    said=$(dd bs=131072 seek=\"$by\" oflag=seek_bytes count=\"$n\" \\\n"                      \
    "      iflag=count_bytes,fullblock conv=\"$conv\" 2>&1 >&5) && why= || "                       \
    "why=${said%%\"$nl\"*}\n"                                                                      \
    "    got=${said##*records out?}\n"                                                             \
    "    got=${got%% *} got=${got:-0}\n"                                                           \
    "    echo \"$i $got $why\"\n"                                                                  \
    "    [ \"$got\" = \"$n\" ] || return 1\n"                                                      \
    "    i=$((i + more + 1)) at=$((at + n * (more + 1))) by=$((n * more))\n"                       \
    "  done\n"                                                                                     \
    "}\n"

// The sum comes after the bytes, so that the file is read once here. To be resumed, what arrived
// stays when the connection ends, and the next upload is told how much of it there is; the sum
// decides whether it was worth keeping. With a mark, the host says how much it has, and whether it
// made the pipe that the slices of several channels are told to. While those come, the file has
// gaps: then lines behind its end say up to where it had none. The sum follows the file in steps of
// 64 MB, of slices in steps of 16.
const char kl_ssh_upload_script[] =
    "t=$1 size=$2 mode=$3 owner=$4 p=$1.$5 keep=$6 mark=$7 conv=$8 wide=$9 there=0 "
    "d= may=0 more=0\n" KL_UPLOAD_START KL_SUM "umask 077\n"
    "if [ \"$keep\" = 1 ]; then\n"
    "  if [ -f \"$p\" ] && [ ! -L \"$p\" ] && [ -O \"$p\" ]\n"
    "  then there=$(stat -c %s -- \"$p\")\n"
    "  else rm -rf -- \"$p\"\n"
    "  fi\n"
    "  if [ \"$there\" -gt \"$size\" ]; then\n"
    "    there=$(tail -c +$((size + 1)) -- \"$p\" | tail -n 1)\n"
    "    case $there in '' | *[!0-9]*) there=0 ;; esac\n"
    "    [ \"$there\" -le \"$size\" ] || there=0\n"
    "    truncate -s \"$there\" -- \"$p\"\n"
    "  fi\n"
    "fi\n"
    ": >> \"$p\"\n"
    "if [ -n \"$mark\" ]; then\n"
    "  d=${TMPDIR:-/tmp}/kiln-$mark\n"
    "  mkdir -- \"$d\" 2> /dev/null || d=\n"
    "  trap '" KL_UNDISTURBED
    "[ \"$keep\" = 1 ] || rm -rf -- \"$p\"; [ -z \"$d\" ] || rm -rf -- \"$d\"' EXIT\n"
    "  [ -z \"$d\" ] || [ \"$wide\" = 0 ] || ! mkfifo -- \"$d/log\" || may=1\n"
    "  if [ \"$may\" = 1 ]; then\n"
    "    exec 3<> \"$d/log\"\n" // waits for no writer
    "    echo \"$there\" | dd of=\"$p\" seek=\"$size\" oflag=seek_bytes conv=notrunc status=none\n"
    "  fi\n"
    "  printf '\\n%s %s %s\\n' \"$mark\" \"$there\" \"$may\"\n"
    "  read -r more\n"
    "  [ \"$may\" = 0 ] || exec 4< \"$d/log\" 3<&-\n"
    "  [ \"$may\" = 0 ] || [ \"$more\" != 0 ] || truncate -s \"$there\" -- \"$p\"\n"
    "fi\n"
    "exec 5<> \"$p\" 6<&0\n" // not to append: dd could leave no holes
    "take() {\n"
    "  dd bs=131072 count=\"$1\" iflag=count_bytes,fullblock status=none ${2:-}\n"
    "}\n"
    "receive() {\n"
    "  left=$((size - there)) n=67108864\n"
    "  [ \"$there\" = 0 ] || dd count=0 seek=\"$there\" oflag=seek_bytes status=none >&5\n"
    "  [ \"$there\" = 0 ] || echo \"$there\"\n"
    "  while [ \"$left\" -gt 0 ]; do\n"
    "    [ \"$left\" -ge \"$n\" ] || n=$left\n"
    "    take \"$n\" conv=\"$conv\" >&5 || return 1\n"
    "    left=$((left - n))\n"
    "    echo \"$n\"\n"
    "  done\n"
    "}\n" SLICES
    // Of slices that came in any order: how much is whole, and how much more.
    "gather() {\n"
    "  next=0 lines=' ' whole=$there told=0\n"
    "  while [ \"$whole\" -lt \"$size\" ] && read -r i got why; do\n"
    "    lines=\"$lines$i:$got \"\n"
    "    while got=${lines#*\" $next:\"} && [ \"$got\" != \"$lines\" ]; do\n"
    "      lines=${lines%%\" $next:\"*}\" ${got#* }\" got=${got%% *} next=$((next + 1))\n"
    "      whole=$((whole + got))\n"
    "      [ \"$got\" = \"$slice\" ] || next=none\n" // the last one, or not all of it came
    "    done\n"
    "    if [ $((whole - told)) -ge 16777216 ] || [ \"$whole\" = \"$size\" ]; then\n"
    "      echo \"$whole\" >> \"$p\"\n"
    "      echo $((whole - told))\n"
    "      told=$whole\n"
    "    fi\n"
    "    [ -z \"$why\" ] || { echo \"$why\" >&2; break; }\n"
    "  done\n"
    "  [ \"$whole\" = \"$size\" ] || { echo \"$whole\" >> \"$p\"; return 1; }\n"
    "  truncate -s \"$size\" -- \"$p\"\n"
    "}\n"
    "gathered() {\n"
    "  slices 0 <&6 > \"$d/log\" &\n"
    "  gather <&4\n"
    "}\n"
    "if [ -n \"$d\" ]; then\n"
    "  way=receive\n"
    "  [ \"$more\" = 0 ] || way=gathered\n"
    "  exec 9< \"$p\"\n"
    "  { $way || : > \"$d/failed\"; } | {\n"
    "    read -r self more < /proc/self/stat\n" // the bytes come first
    "    { chrt -i -p 0 \"$self\" || renice -n 19 -p \"$self\" || :; } > /dev/null 2>&1\n"
    "    while read -r n; do take \"$n\" <&9; done | sum > \"$d/sum\"\n"
    "  }\n"
    "  [ ! -e \"$d/failed\" ] || exit 1\n"
    "  have=$(cat -- \"$d/sum\")\n"
    "else\n"
    "  receive > /dev/null\n"
    "  have=$(sum < \"$p\")\n"
    "fi\n"
    "[ \"$(stat -c %s -- \"$p\")\" = \"$size\" ] || exit 1\n" // the connection was lost
    "read -r want\n"
    "[ -z \"$owner\" ] || chown -- \"$owner\" \"$p\"\n"
    "chmod -- \"$mode\" \"$p\"\n"
    "if [ \"${have%% *}\" != \"$want\" ]; then\n"
    "  keep=0\n"
    "  echo 'the bytes that arrived have another sha256' >&2\n"
    "  exit 80\n"
    "fi\n"
    "mv -fT -- \"$p\" \"$t\"\n"
    "[ \"$keep\" = 0 ] || rm -f -- \"$t\".kiln-part-*\n";

// Another channel's: says the mark when the pipe and the file are open.
const char kl_ssh_upload_more_script[] =
    "p=$3 there=$4 size=$5 conv=$6\n"
    "export LC_ALL=C\n"
    "exec 3>&1 > \"${TMPDIR:-/tmp}/kiln-$1/log\" 5<> \"$p\" || exit\n"
    "printf '\\n%s ok\\n' \"$1\" >&3\n"
    "exec 3>&-\n"
    "read -r more || exit\n" SLICES "slices \"$2\"\n";
