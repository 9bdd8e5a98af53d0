#!/bin/sh
# Fuzzes each reader for a while, and prints a row of a table for it.
#   run.sh BUILD READER…     KILN_FUZZ_SECONDS (60) for each; KILN_FUZZ_READERS: these alone
# What libFuzzer finds stays in BUILD/corpus/READER; an input that fails, in BUILD/findings/.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1
shift
# shellcheck disable=SC2086 # a list of words
[ -z "${KILN_FUZZ_READERS:-}" ] || set -- $KILN_FUZZ_READERS
status=0
mkdir -p "$build/findings"
echo "| reader | executions | edges | features | seconds | findings |"
echo "|---|---|---|---|---|---|"
for reader in "$@"; do
  own=$build/corpus/$reader
  log=$build/$reader.log
  mkdir -p "$own"
  findings=0
  leaks=1
  # Those check for leaks themselves (lua_reader.c).
  if grep -q "^function readers.$reader(" "$here/readers.lua"; then leaks=0; fi
  # A slow input is one of more than 10 s; 10 KB are more than any of these formats needs.
  "$build/fuzz_$reader" -max_total_time="${KILN_FUZZ_SECONDS:-60}" -timeout=10 -max_len=10240 \
    -rss_limit_mb=2048 -detect_leaks=$leaks -print_final_stats=1 -artifact_prefix="$build/findings/$reader-" \
    "$own" "$here/corpus/$reader" >"$log" 2>&1 || findings=1
  last=$(grep -E '^#[0-9]+.*cov:' "$log" | tail -1)
  word() { echo "$last" | sed -n "s/.*$1: \([0-9]*\).*/\1/p"; }
  done_=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
  seconds=$(sed -n 's/^Done .* in \([0-9]*\) second.*/\1/p' "$log")
  echo "| $reader | ${done_:-?} | $(word cov) | $(word ft) | ${seconds:-?} | $findings |"
  [ "$findings" = 0 ] || { status=1; tail -40 "$log" >&2; }
done
exit $status
