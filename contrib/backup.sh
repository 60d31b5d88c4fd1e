#!/bin/sh
# Copies a store to another directory with rsync, while writers and `cairn gc` work in it: backup.sh STORE DESTINATION
#
# The copy is a store. It has every version that was complete when the copying began. Run it again to bring it up to
# date; `cairn gc` in the copy frees what the copy no longer needs. While it runs, no version may be removed and freed
# at once: collect with a --min-age that is longer than a backup takes (the default is 24 hours).
#
# The order matters:
#  1. Numbers, then records. A record is complete before its number exists, so each number copied has its record.
#  2. Content after the records that name it.
#  3. `trash/` between two copies of `objects/` and `packs/`: a collection moves content there, and back if it is
#     needed.
# Not copied: what belongs to processes (work, locks, pins), caches (index), and what the last collection saw
# (gc.json).
set -eu
store=${1%/} copy=${2%/}
rsync=${RSYNC:-rsync}

# 24: files vanished while they were copied. They were moved, and are copied from their new places.
copied() { "$rsync" -a "$@" "$copy/" || [ $? = 24 ]; }

mkdir -p "$copy"
copied "$store/artifacts"
copied --include='*/' --include='.*' --include='/artifacts/*/versions/.*/*' --exclude='*' "$store/artifacts"
if [ -d "$store/staging" ]; then copied "$store/staging"; fi
copied "$store/objects" "$store/packs"
copied "$store/trash"
copied "$store/objects" "$store/packs"
for directory in work locks pins index staging damaged; do mkdir -p "$copy/$directory"; done
copied "$store/cairn.json"
