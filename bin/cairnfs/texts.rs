//! The texts of `cairnfs --help`. The manual page cairnfs(8), which `cairn manpages` writes, is made of them too.

use crate::help::Help;

/// The text of `--help`.
pub const HELP: Help = Help {
    description: &[
        "Mounts a cairn store, or one version of it, as a read-only file system, or a run's staging directory as a \
         writable one. `cairn mount` does the same; cairnfs is for mount(8) and /etc/fstab, where its file system type \
         is fuse.cairnfs (mount(8) needs the package fuse3 for it).",
        "Without the options version and stage the whole store is mounted: MNT/NAME/vN and MNT/NAME/ALIAS. The \
         staging directories of runs are below MNT/.staging and MNT/NAME/.staging, unless ro or nostage is given.",
        "The process goes to the background when the mount is ready. umount(8) and `cairn umount` end it; only `cairn \
         umount` seals a staging directory.",
    ],
    examples: &[
        ("cairnfs /data/store /mnt/all", "the whole store"),
        ("cairnfs /data/store /mnt/set -o version=set:v3,allow_other", "one version"),
        ("cairnfs /data/store /mnt/o -o stage=eval,distributed_id=job-99,run=rank-3", "a run's staging directory"),
        ("mount -t fuse.cairnfs /data/store /mnt/set -o version=set:v3", "the same by mount(8)"),
        ("/data/store  /mnt/set  fuse.cairnfs  version=set:latest,allow_other,_netdev  0 0", "a line of /etc/fstab"),
    ],
    exit: &[
        (0, "mounted"),
        (2, "an argument or a mount option is wrong"),
        (3, "refused: a conflict or a lock, or the mount point is in use"),
        (4, "the store is damaged"),
        (5, "a system call failed"),
        (6, "the store, the artifact or the version was not found"),
    ],
    json: "",
    list: Some(("Mount options", MOUNT_OPTIONS)),
};

/// The options after `-o`.
const MOUNT_OPTIONS: &[(&str, &str)] = &[
    ("version=NAME:V", "Mount one version: NAME:vN, NAME:ALIAS or NAME for the newest. The mount keeps that version."),
    (
        "stage=NAME,distributed_id=ID,run=R",
        "Mount the staging directory of run R for the draft ID of the artifact NAME, writable. All three are needed.",
    ),
    ("ro, nostage", "Whole store: without staging directories."),
    ("allow_other", "Let other users use the mount."),
    ("threads=N", "Answer N requests at a time, 1 to 256. The default is one per processor, 2 to 4."),
    ("foreground", "Stay in the foreground."),
    ("io=auto|no-open|passthrough", "How files are opened and read, as `cairn mount --help` describes it."),
    ("verify=put|all", "When content is hashed, as `cairn mount --help` describes it."),
    (
        "refresh=SECONDS",
        "Whole store: show new versions and moved aliases within SECONDS, 1 to 3600. The default is 1.",
    ),
    (
        "deadline=SECONDS",
        "How long a request may wait for the store's disk before it fails, 1 to 3600. The default is 60. It counts on \
         shared disks only.",
    ),
    (
        "cache=DIR, cache_size=N",
        "Read through a cache in DIR on a disk of this node, of at most N bytes, as `cairn mount --help` describes it.",
    ),
    ("warm", "One version: read all its content ahead in the background, into memory and into the cache."),
    (
        "log=FILE",
        "Write the daemon's errors to FILE. The default is syslog, with foreground it is stderr. `journalctl -t \
         cairnfs` shows them on a system with systemd.",
    ),
    ("exec, noexec", "Allow or refuse the execution of files in the mount."),
    (
        "_netdev, nofail, noauto, user, x-*, comment=TEXT ...",
        "The options of mount(8) itself are accepted. A backslash before a comma makes it a part of a value.",
    ),
];
