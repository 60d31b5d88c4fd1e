# shellcheck shell=bash
# A bed: a shared file system's servers and two clients ("hosts"), each in its own network namespace. So they reach
# nothing outside, and a client's cable can be pulled. `run` sources this. Everything is below $BED; `down` ends the
# processes in the namespaces and no others.
set -u

BED=${BED:?a directory for the bed}
TAG=${TAG:?a short name for the namespaces}
NET=${NET:?the third number of the addresses}
SERVER=10.$NET.0.1

fail() { echo "sharedfs: $*" >&2; exit 1; }
on_server() { nsenter --net=/run/netns/"$TAG"-s -- "$@"; }
on_client() { local n=$1; shift; nsenter --net=/run/netns/"$TAG-$n" -- "$@"; }
mount_of() { echo "$BED/host$1"; }
cut_cable() { on_server ip link set "$TAG-v$1" down; }
mend_cable() { on_server ip link set "$TAG-v$1" up; }

until_ok() { # SECONDS COMMAND...
  local left=$(($1 * 10)); shift
  while ! "$@" >/dev/null 2>&1; do
    left=$((left - 1)); [ $left -gt 0 ] || fail "waited in vain for: $*"
    sleep 0.1
  done
}

network() {
  mkdir -p "$BED/log"
  ip netns add "$TAG-s"
  on_server ip link set lo up
  on_server ip link add bridge0 type bridge
  on_server ip addr add "$SERVER/24" dev bridge0
  on_server ip link set bridge0 up
  for n in 1 2; do
    ip netns add "$TAG-$n"
    on_client $n ip link set lo up
    ip link add "$TAG-v$n" netns "$TAG-s" type veth peer name eth0 netns "$TAG-$n"
    on_server ip link set "$TAG-v$n" master bridge0 up
    on_client $n ip addr add "10.$NET.0.$((10 + n))/24" dev eth0
    on_client $n ip link set eth0 up
  done
}

inhabitants() {
  for n in s 1 2; do [ -e /run/netns/"$TAG-$n" ] && ip netns pids "$TAG-$n"; done | sort -un
}

down() {
  for n in 1 2; do
    mountpoint -q "$(mount_of $n)" && { umount "$(mount_of $n)" 2>/dev/null || umount -l "$(mount_of $n)"; }
  done
  for signal in TERM KILL; do
    for pid in $(inhabitants); do kill -$signal "$pid" 2>/dev/null; done
    for _ in $(seq 20); do [ -z "$(inhabitants)" ] && break; sleep 0.2; done
  done
  for n in s 1 2; do [ -e /run/netns/"$TAG-$n" ] && ip netns del "$TAG-$n"; done
  rm -rf --one-file-system "$BED"
}

gluster_up() { # LAYOUT ("" for two bricks, distributed)
  local layout=$1 bricks= count=2 socket=$BED/glusterd.sock
  [ -n "$layout" ] && count=3
  mkdir -p "$BED/glusterd" "$BED/run"
  {
    echo "volume management"
    echo "  type mgmt/glusterd"
    echo "  option working-directory $BED/glusterd"
    echo "  option run-directory $BED/run"
    echo "  option glusterd-sockfile $socket"
    echo "  option transport-type socket"
    echo "  option transport.socket.listen-port 24007"
    echo "  option event-threads 1"
    echo "  option max-port 60999"
    echo "end-volume"
  } > "$BED/glusterd.vol"
  on_server glusterd --volfile="$BED/glusterd.vol" --log-file="$BED/log/glusterd.log" --pid-file="$BED/run/glusterd.pid"
  manage() { on_server gluster --mode=script --glusterd-sock="$socket" "$@"; }
  until_ok 20 manage volume list
  for n in $(seq $count); do mkdir -p "$BED/brick$n"; bricks+=" $SERVER:$BED/brick$n"; done
  # shellcheck disable=SC2086
  manage volume create store $layout transport tcp $bricks force >/dev/null || fail "the volume was not made"
  case "$layout" in replica*) manage volume set store cluster.self-heal-daemon off >/dev/null ;; esac
  manage volume start store >/dev/null || fail "the volume did not start"
  for n in 1 2; do
    mkdir -p "$(mount_of $n)"
    on_client $n glusterfs --volfile-server=$SERVER --volfile-id=store --log-file="$BED/log/client$n.log" \
      "$(mount_of $n)" || fail "mount $n"
    until_ok 20 stat "$(mount_of $n)/."
  done
}

moosefs_up() {
  mkdir -p "$BED/master"
  printf 'MFSM NEW' > "$BED/master/metadata.mfs"
  echo '* / rw,alldirs,admin,maproot=0:0' > "$BED/exports.cfg"
  : > "$BED/topology.cfg"
  local common="WORKING_USER = root
WORKING_GROUP = root
NICE_LEVEL = 0
DISABLE_OOM_KILLER = 0"
  printf '%s\nDATA_PATH = %s\nEXPORTS_FILENAME = %s\nTOPOLOGY_FILENAME = %s\n' \
    "$common" "$BED/master" "$BED/exports.cfg" "$BED/topology.cfg" > "$BED/master.cfg"
  on_server mfsmaster -c "$BED/master.cfg" start > "$BED/log/master.log" 2>&1 ||
    fail "mfsmaster: $(tail -1 "$BED/log/master.log")"
  for n in 1 2; do
    mkdir -p "$BED/chunks$n/data" "$BED/chunks$n/disk"
    echo "$BED/chunks$n/disk -1GiB" > "$BED/chunks$n.disks"
    {
      printf '%s\nDATA_PATH = %s\nHDD_CONF_FILENAME = %s\n' "$common" "$BED/chunks$n/data" "$BED/chunks$n.disks"
      printf 'HDD_LEAVE_SPACE_DEFAULT = 16MiB\nHDD_TEST_SPEED = 0\nHDD_FSYNC_BEFORE_CLOSE = 1\n'
      printf 'MASTER_HOST = %s\nCSSERV_LISTEN_PORT = 942%d\nBIND_HOST = %s\n' "$SERVER" $((n * 2)) "$SERVER"
      printf 'WORKERS_MAX = 16\nWORKERS_MAX_IDLE = 4\n'
    } > "$BED/chunks$n.cfg"
    on_server mfschunkserver -c "$BED/chunks$n.cfg" start > "$BED/log/chunks$n.log" 2>&1 ||
      fail "mfschunkserver: $(tail -1 "$BED/log/chunks$n.log")"
  done
  for n in 1 2; do
    mkdir -p "$(mount_of $n)"
    on_client $n mfsmount "$(mount_of $n)" -H "$SERVER" -o mfsproxy=127.0.0.1,mfsnice=0,mfsallowoomkiller \
      > "$BED/log/client$n.log" 2>&1 ||
      fail "mfsmount $n"
    until_ok 20 stat "$(mount_of $n)/."
  done
  until_ok 30 sh -c "echo x > $(mount_of 1)/.ready && cat $(mount_of 2)/.ready"
}
