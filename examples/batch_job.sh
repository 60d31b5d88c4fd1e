#!/usr/bin/env bash
# A batch job of 64 ranks that write one evaluation together. One rank fails and is requeued. Nothing of it is lost, and
# nothing is in the version twice.
#
#   examples/batch_job.sh            # plays the job here: 64 processes, at most 8 at a time
#   sbatch --array=0-63 …            # under Slurm each rank runs the function `rank` below, and a job that depends on
#                                    # the array runs `finish`
#
# Needs `cairn` in PATH (cargo install --path ., or PATH=$PWD/target/release:$PATH after cargo build --release).
set -euo pipefail

ranks=${RANKS:-64}
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
export CAIRN_STORE=${CAIRN_STORE:-$here/store}
[ -e "$CAIRN_STORE/cairn.json" ] || cairn init -q "$CAIRN_STORE" >/dev/null

# One id for the whole job: its group. Under Slurm: $SLURM_ARRAY_JOB_ID.
export CAIRN_RUN_GROUP=${SLURM_ARRAY_JOB_ID:-job-$$}

# What a rank does. Its run id is the same when it is requeued, so its second try goes over its first one.
rank() {
  local n=$1 out=$here/rank-$1
  mkdir -p "$out"
  for sample in 1 2 3 4; do
    echo "$n,$sample,0.$((n * 7 + sample))" > "$out/sample-$sample.csv"
    # Rank 13 dies in the middle of its first try, when half of its samples are contributed.
    if [ "$n" = 13 ] && [ "$sample" = 3 ] && [ ! -e "$here/13-died" ]; then
      touch "$here/13-died"
      cairn upsert -q evaluation "$out" --at "rank-$n" --run "rank-$n" >/dev/null
      echo "rank 13: node failure after two and a half samples" >&2
      return 1
    fi
  done
  cairn upsert -q evaluation "$out" --at "rank-$n" --run "rank-$n" --job-type eval >/dev/null
}

failed=()
running=0
for n in $(seq 0 $((ranks - 1))); do
  ( rank "$n" || echo "$n" >> "$here/failed" ) &
  running=$((running + 1))
  if [ "$running" -ge 8 ]; then wait -n; running=$((running - 1)); fi
done
wait

# The scheduler requeues what failed.
if [ -e "$here/failed" ]; then
  mapfile -t failed < "$here/failed"
  for n in "${failed[@]}"; do
    echo "requeued: rank $n" >&2
    rank "$n"
  done
fi

cairn drafts
# One job that depends on the array runs this: it waits for ranks that are still writing, and says which are missing.
version=$(cairn finish evaluation --expect "$ranks" --wait 600 --alias newest-eval)
echo "$version"
files=$(cairn ls -R "$version" | grep -vc '/$')
echo "$files files of $ranks ranks"
[ "$files" = $((ranks * 4)) ]
