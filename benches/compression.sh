#!/bin/bash
# What a directory takes in a store, and how long storing and reading it takes: cairn without compression, with that
# of small files and with that of all files, restic and borg, one after another, each into an empty store on the
# disk of WORK. Seconds, and those of processors, which other programs on the machine hardly change. What is read is
# written to OUT, in memory: ext4 without a journal creates files slowly for minutes after many were removed, which
# a row would suffer from the one before.
#
#   benches/compression.sh DIR [WORK [OUT]]   CAIRN=target/release/cairn, BEFORE=an earlier release of it, ROUNDS=1
set -eu
dir=$(realpath "$1")
work=$(mktemp -d "${2:-${TMPDIR:-/tmp}}/compression-XXXXXX")
out=$(mktemp -d "${3:-/dev/shm}/compression-XXXXXX")
trap 'rm -rf "$work" "$out"' EXIT
cairn=$(realpath "${CAIRN:-target/release/cairn}")
before=${BEFORE:+$(realpath "$BEFORE")}
# The times of the files are not remembered from one round to the next.
export CAIRN_STAT_CACHE=off RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$work/restic-cache BORG_BASE_DIR=$work/borg-base
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes

# time_of COMMAND…: its wall-clock seconds, and those of processors
time_of() {
  local TIMEFORMAT='%R %U %S'
  { time "$@" >"$work/log" 2>&1 || { cat "$work/log" >&4; exit 1; } } 4>&2 2>"$work/time"
  awk '{ printf "%.2f | %.2f", $1, $2 + $3 }' "$work/time"
}

row() { # row NAME INIT STORE GET, each a function that is called with the store's directory
  local store=$work/store put get size
  "$2" "$store" >"$work/log" 2>&1
  put=$(time_of "$3" "$store")
  mkdir "$out/got"
  get=$(time_of "$4" "$store" "$out/got")
  size=$(du -s --apparent-size --block-size=1K "$store" | awk '{ printf "%.1f", $1 / 1024 }')
  printf '| %s | %s | %s | %s |\n' "$1" "$size" "$put" "$get"
  rm -rf "$store" "$out/got"
  sync
}

init_auto() { "$cairn" init "$1"; }
init_all() { "$cairn" init --compression all "$1"; }
init_none() { "$cairn" init --compression none "$1"; }
init_before() { "$before" init "$1"; }
put_cairn() { "$cairn" --store "$1" put a "$dir"; sync -f "$1"; }
put_before() { "$before" --store "$1" put a "$dir"; sync -f "$1"; }
get_cairn() { "$cairn" --store "$1" get a "$2/got"; }
get_before() { "$before" --store "$1" get a "$2/got"; }
init_restic() { restic init --repository-version "$version" -r "$1"; }
put_restic() { (cd "$dir" && restic -r "$1" backup --compression "$level" . ); sync -f "$1"; }
get_restic() { restic -r "$1" restore latest --target "$2"; }
init_borg() { borg init -e none "$1"; }
put_borg() { (cd "$dir" && borg create -C "$level" "$1::a" .); sync -f "$1"; }
get_borg() { (cd "$2" && borg extract "$1::a"); }

find "$dir" -type f -exec cat {} + >/dev/null # all measure with the files in memory
echo "$dir: $(find "$dir" -type f | wc -l) files, $(du -s --apparent-size --block-size=1M "$dir" | cut -f1) MiB"
echo "| | store, MiB | put, s | processor, s | get, s | processor, s |"
echo "|---|---|---|---|---|---|"
for _ in $(seq "${ROUNDS:-1}"); do
  [ -z "$before" ] || row "cairn, the release before" init_before put_before get_before
  row "cairn --compression none" init_none put_cairn get_cairn
  row "cairn" init_auto put_cairn get_cairn
  row "cairn --compression all" init_all put_cairn get_cairn
  if [ -z "${ONLY_CAIRN:-}" ] && command -v restic >/dev/null; then
    version=2 level=auto; row "$(restic version | cut -d' ' -f1-2), auto" init_restic put_restic get_restic
  fi
  if [ -z "${ONLY_CAIRN:-}" ] && command -v borg >/dev/null; then
    level=lz4; row "$(borg --version), lz4" init_borg put_borg get_borg
    level=zstd,3; row "$(borg --version), zstd" init_borg put_borg get_borg
  fi
done
