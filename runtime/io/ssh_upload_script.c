// What runs on the host for the upload of a file.
#include "io/ssh_upload_script.h"

#include "io/ssh_transfer_internal.h"

// The sum comes after the bytes, so that the file is read once here. To be resumed, what arrived
// stays when the connection ends, and the next upload is told how much of it there is; the sum
// decides whether it was worth keeping. With a mark, the host says how much it has, and whether it
// made the pipes that more channels write to. Slices of 2 MB come from each channel in turn; the
// newline after each tells that it is whole, or what follows would be appended after a gap. The sum
// follows the file, 16 MB at a time.
const char kl_ssh_upload_script[] =
    "t=$1 size=$2 mode=$3 owner=$4 p=$1.$5 keep=$6 mark=$7 conv=$8 there=0 "
    "d= may=0 more=0 low=\n" KL_UPLOAD_START "umask 077\n"
    "if [ \"$keep\" = 1 ]; then\n"
    "  if [ -f \"$p\" ] && [ ! -L \"$p\" ] && [ -O \"$p\" ]\n"
    "  then there=$(stat -c %s -- \"$p\")\n"
    "  else rm -rf -- \"$p\"\n"
    "  fi\n"
    "  [ \"$there\" -le \"$size\" ] || { rm -f -- \"$p\"; there=0; }\n"
    "fi\n"
    "if [ -n \"$mark\" ]; then\n"
    "  d=${TMPDIR:-/tmp}/kiln-$mark\n"
    "  mkdir -- \"$d\" 2> /dev/null || d=\n"
    "  trap '[ \"$keep\" = 1 ] || rm -rf -- \"$p\"; [ -z \"$d\" ] || rm -rf -- \"$d\"' EXIT\n"
    "  [ -z \"$d\" ] || ! mkfifo -- \"$d/1\" \"$d/2\" \"$d/3\" || may=1\n"
    "  [ \"$may\" = 0 ] || exec 3<> \"$d/1\" 4<> \"$d/2\" 5<> \"$d/3\"\n" // waits for no writer
    "  printf '\\n%s %s %s\\n' \"$mark\" \"$there\" \"$may\"\n"
    "  read -r more\n"
    "  [ \"$may\" = 0 ] || exec 6< \"$d/1\" 7< \"$d/2\" 8< \"$d/3\" 3<&- 4<&- 5<&-\n"
    "fi\n"
    ": >> \"$p\"\n"
    "exec 5<> \"$p\"\n" // not to append: dd could leave no holes
    "[ \"$there\" = 0 ] || dd count=0 seek=\"$there\" oflag=seek_bytes status=none >&5\n"
    "take() {\n"
    "  $low dd bs=131072 count=\"$1\" iflag=count_bytes,fullblock status=none ${2:-}\n"
    "}\n"
    "piece() {\n"
    "  take \"$1\" \"$conv\" >&5\n"
    "}\n"
    "receive() {\n"
    "  left=$((size - there)) way=0 n=16777216 new=0\n"
    "  [ \"$more\" = 0 ] || n=2097152\n"
    "  [ \"$there\" = 0 ] || echo \"$there\"\n"
    "  while [ \"$left\" -gt 0 ]; do\n"
    "    [ \"$left\" -ge \"$n\" ] || n=$left\n"
    "    case $way in\n"
    "      0) piece \"$n\" && { [ \"$more\" = 0 ] || read -r _; } ;;\n"
    "      1) piece \"$n\" <&6 && read -r _ <&6 ;;\n"
    "      2) piece \"$n\" <&7 && read -r _ <&7 ;;\n"
    "      3) piece \"$n\" <&8 && read -r _ <&8 ;;\n"
    "    esac || return 1\n"
    "    left=$((left - n)) new=$((new + n)) way=$(((way + 1) % (more + 1)))\n"
    "    if [ \"$new\" -ge 16777216 ] || [ \"$left\" = 0 ]; then echo \"$new\"; new=0; fi\n"
    "  done\n"
    "}\n"
    "sum() {\n"
    "  if command -v openssl > /dev/null\n" // ten times as fast
    "  then $low openssl dgst -sha256 -r\n"
    "  else $low sha256sum\n"
    "  fi\n"
    "}\n"
    "if [ -n \"$d\" ]; then\n"
    "  exec 9< \"$p\"\n"
    "  { receive || : > \"$d/failed\"; } | {\n"
    "    low='nice -n 19'\n" // the bytes come first
    "    ! command -v chrt > /dev/null || low='chrt -i 0'\n"
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

// Another channel's: says the mark when the pipe is open.
const char kl_ssh_upload_more_script[] = "exec 3>&1 > \"${TMPDIR:-/tmp}/kiln-$1/$2\" || exit\n"
                                         "printf '\\n%s ok\\n' \"$1\" >&3\n"
                                         "exec 3>&-\n"
                                         "exec cat\n";
