#!/bin/bash
# How fast files are read that a store keeps as they are, and those that it compresses (`cairn init --compression all`):
# through a mount by root, for the first time and again, and by `get`. Each row: the store's size, and seconds and those
# of processors; of a mount, those of the readers and the daemon together. Needs root, for the mount and to drop caches.
#
#   benches/compressed_reads.sh DIR [WORK]   CAIRN=target/release/cairn, ROUNDS=1
set -eu
dir=$(realpath "$1")
work=$(mktemp -d "${2:-${TMPDIR:-/tmp}}/reads-XXXXXX")
cairn=$(realpath "${CAIRN:-target/release/cairn}")
export CAIRN_STAT_CACHE=off CAIRN_CACHE_DIR=$work/cairn-cache
daemon=
trap '[ -z "$daemon" ] || "$cairn" umount "$work/mnt"; rm -rf "$work"' EXIT
mkdir "$work/mnt"

# pid_of MOUNTPOINT: its daemon
pid_of() {
  "$cairn" mounts --json | python3 -c '
import json, sys
print(*(mount["pid"] for mount in json.load(sys.stdin) if mount["mountpoint"] == sys.argv[1]))' "$1"
}

# processor_of PID: the seconds that it has used
processor_of() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$1/stat"; }

# read_of NAME COMMAND…: seconds, and those of processors with what the daemon took
read_of() {
  local name=$1 before after TIMEFORMAT='%R %U %S'
  shift
  before=0; after=0
  [ -z "$daemon" ] || before=$(processor_of "$daemon")
  { time "$@" >/dev/null 2>&4; } 4>&2 2>"$work/time"
  [ -z "$daemon" ] || after=$(processor_of "$daemon")
  awk -v name="$name" -v more="$(echo "$after $before" | awk '{ print $1 - $2 }')" \
    '{ printf " %s %.2f s, %.2f s of processors;", name, $1, $2 + $3 + more }' "$work/time"
}

all_in() { find "$1" -type f -exec cat {} +; }

random_in() { # 10,000 reads of 4 KiB at random places of all files
  python3 -c '
import os, random, sys
r, files = random.Random(1), []
for at, _, names in os.walk(sys.argv[1]):
    files += sorted(os.path.join(at, name) for name in names)
files = [(os.open(path, os.O_RDONLY), os.path.getsize(path)) for path in r.sample(files, min(500, len(files)))]
for _ in range(10_000):
    file, size = r.choice(files)
    os.pread(file, 4096, r.randrange(max(1, size - 4096)))
' "$1"
}

drop() { sync; echo 3 >/proc/sys/vm/drop_caches; }

all_in "$dir" >/dev/null
for _ in $(seq "${ROUNDS:-1}"); do
  for compression in auto all; do
    store=$work/store
    "$cairn" init --compression $compression "$store" >"$work/log" 2>&1
    printf '%s:' "$compression"
    read_of put "$cairn" -q --store "$store" put a "$dir"
    printf ' store %s MiB;' "$(du -s --apparent-size --block-size=1M "$store" | cut -f1)"
    for order in "in order" random; do
      read=all_in; [ "$order" = random ] && read=random_in
      drop
      "$cairn" --store "$store" mount "$work/mnt" a >"$work/log" 2>&1
      daemon=$(pid_of "$work/mnt")
      read_of "$order, from the disk" $read "$work/mnt"
      read_of "$order, again" $read "$work/mnt"
      daemon=; "$cairn" umount "$work/mnt" >"$work/log"
      "$cairn" --store "$store" mount "$work/mnt" a >"$work/log" 2>&1
      daemon=$(pid_of "$work/mnt")
      read_of "$order, store in memory" $read "$work/mnt"
      daemon=; "$cairn" umount "$work/mnt" >"$work/log"
    done
    read_of get "$cairn" --store "$store" get a "$work/got"
    echo
    rm -rf "$store" "$work/got"
  done
done
