#!/usr/bin/env python3
"""Races of the product over several mounts ("hosts") of one store: storm.py CAIRN SECONDS HOST... [--cut COMMAND]

Processes on every host put, patch, upsert, write into staging directories, finish and move aliases at once. Some are
killed, tokens of others are fenced, and readers check everything meanwhile. With --cut, COMMAND is run with `down N`
and `up N` for a client's cable in the middle. At the end, on every host: each acknowledged change is there, numbers are
dense, `cairn verify` finds nothing, and no fenced token is at a number. It prints counts and exits with 1 on any
violation.
"""

import errno, collections, hashlib, json, os, random, re, shutil, signal, subprocess, sys, threading, time

cairn, seconds, args = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
cut = args.pop(args.index("--cut") + 1) if "--cut" in args else None
hosts = [a for a in args if a != "--cut"]
counts = collections.Counter()
errors = collections.Counter()  # which commands were repeated, and why
acknowledged = collections.defaultdict(list)  # what was acknowledged
wrong = []
digests = {}  # of what was sealed in staging directories
fenced = set()
lock = threading.Lock()
stop = threading.Event()
PATIENCE = 300
NUMBER = re.compile(r"v\d+|\d{6,}")
TMP = os.environ.get("TMPDIR", "/tmp")


def run(host, *args, kill=0.0, rng=random):
    """Runs a command on a host's mount; (status, stdout, stderr), status None when it was killed."""
    env = dict(os.environ, CAIRN_STORE=host + "/store", CAIRN_CACHE_DIR=TMP + "/cairn-sharedfs-cache-%d" % os.getpid())
    for name in ("CAIRN_RUN", "CAIRN_RUN_GROUP", "CAIRN_JOB_TYPE"):
        env.pop(name, None)
    child = subprocess.Popen([cairn, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if rng.random() < kill:
        time.sleep(rng.random() * 0.3)
        child.kill()
    try:
        out, err = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        with lock:
            wrong.append("no answer in %d s: %s" % (PATIENCE, " ".join(args)))
    return (None if child.returncode < 0 else child.returncode), out.strip(), err


def persist(host, *args, kill=0.15, rng=random):
    """Runs a command until it succeeds or is refused."""
    began = time.time()
    while True:
        status, out, err = run(host, *args, kill=kill, rng=rng)
        if status is None:
            counts["killed"] += 1
            continue
        if status in (0, 3):
            return status, out, err
        counts["repeated after an error"] += 1
        errors[re.sub(r"/tmp/[^/]*/|[0-9a-f]{30,}", "", " ".join(err.split()))[:150]] += 1
        if status in (1, 2, 4, 6) or time.time() - began > PATIENCE:
            with lock:
                wrong.append("%s: status %s %s" % (" ".join(args), status, err))
            return status, out, err
        time.sleep(0.5)


def source(rng, text):
    path = TMP + "/cairn-sharedfs-%d-%08x" % (os.getpid(), rng.getrandbits(32))
    with open(path, "w") as f:
        f.write(text)
    return path


def putter(host, me, rng):
    n = 0
    while not stop.is_set():
        n += 1
        text = "%s put %d" % (me, n)
        path = source(rng, text)
        status, out, _ = persist(host, "put", "puts", path, rng=rng)
        os.unlink(path)
        if status == 0:
            with lock:
                acknowledged["puts"].append((out, text))
            counts["puts"] += 1


def patcher(host, me, rng):
    n = 0
    while not stop.is_set():
        n += 1
        text = "%s %d" % (me, n)
        path = source(rng, text)
        at = "own/%s/%d" % (me, n)
        status, out, err = persist(host, "patch", "patched", path, "--at", at, "--create", rng=rng)
        if status == 0:
            with lock:
                acknowledged["patched"].append((at + "/" + os.path.basename(path), text))
            counts["patches"] += 1
            counts["rebased"] += "rebased" in err
        else:
            with lock:
                wrong.append("a patch of paths of its own is refused: " + err)
        os.unlink(path)


def current_draft(rng):
    """The draft after the finished ones; now and then a finished one."""
    with lock:
        finished = len({draft for draft, _ in acknowledged["finished"]})
    return "draft-%d" % max(0, finished - (rng.random() < 0.1))


def contributor(host, me, rng):
    n = 0
    while not stop.is_set():
        n += 1
        draft = current_draft(rng)
        text = "%s %d" % (me, n)
        path = source(rng, text)
        run = "%s-%d" % (me, n)
        status, _, err = persist(host, "upsert", "drafts", path, "--run", run, "--distributed-id", draft, rng=rng)
        if status == 0:
            with lock:
                acknowledged[draft].append((os.path.basename(path), text))
            counts["upserts"] += 1
        elif "is finished" in err:
            # If an earlier try was killed, the contribution may be in the version although this one was refused.
            counts["upserts refused, finished"] += 1
        else:
            counts["upserts refused"] += 1
        os.unlink(path)
        if rng.random() < 0.1:
            status, out, _ = persist(host, "finish", "drafts", "--distributed-id", draft, "--skip-open", rng=rng)
            if status == 0:
                with lock:
                    acknowledged["finished"].append((draft, out))
                counts["finishes"] += 1


def daemons(mnt):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            args = open("/proc/%s/cmdline" % pid, "rb").read().split(b"\0")
        except OSError:
            continue
        if b"mount" in args and mnt.encode() in args:
            yield int(pid)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def stager(host, me, rng):
    """Copies into a staging directory, whose daemon is killed now and then; the run continues after that.

    Records what was sealed, with its digests.
    """
    mnt, n = TMP + "/cairn-sharedfs-mnt-%d-%s" % (os.getpid(), me), 0
    os.mkdir(mnt)
    while not stop.is_set():
        n += 1
        draft = current_draft(rng)
        mount = ("mount", mnt, "drafts", "--stage", "--distributed-id", draft, "--run", "%s-%d" % (me, n))
        files = {"%s-%d-%d" % (me, n, i): rng.randbytes(size) for i, size in enumerate((100, 50_000, 300_000))}
        status, _, err = persist(host, *mount, kill=0, rng=rng)
        if status != 0:
            counts["stages refused, finished" if "is finished" in err else "stages refused"] += 1
            continue
        for i, (name, data) in enumerate(files.items()):
            try:
                write(mnt + "/" + name, data)
            except OSError as e:
                if e.errno != errno.EROFS:
                    raise
                break  # its draft was finished meanwhile: the seal says so
            if i == 1 and rng.random() < 0.3:
                for pid in daemons(mnt):
                    os.kill(pid, signal.SIGKILL)
                counts["staging daemons killed"] += 1
                persist(host, "umount", "--no-seal", mnt, kill=0, rng=rng)
                while True:  # until its lock is seen to have no live holder
                    status, _, err = persist(host, *mount, kill=0, rng=rng)
                    if status == 0 or "is finished" in err or stop.is_set():
                        break
                    counts["stages held by the dead"] += 1
                    time.sleep(1)
                if status != 0:
                    break
                missing = [f for f in list(files)[:2] if not os.path.exists(mnt + "/" + f)]
                if missing:
                    wrong.append("what was fsynced is gone after a kill: %s" % missing)
        if status != 0:
            counts["stages refused, finished"] += 1
            continue
        status, _, err = persist(host, "seal", mnt, rng=rng)
        if status == 0:
            with lock:
                acknowledged[draft] += [(name, None) for name in files]
                digests.update({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
            counts["stages sealed"] += 1
        elif "is finished" in err:
            counts["stages refused, finished"] += 1
        else:
            wrong.append("a stage was not sealed: " + err)
        persist(host, "umount", "--no-seal", mnt, kill=0, rng=rng)
    os.rmdir(mnt)


def mover(host, me, rng):
    while not stop.is_set():
        status, out, _ = run(host, "list", "puts", "--json")
        versions = [v["version"] for v in json.loads(out)] if status == 0 and out else []
        if versions:
            status, _, _ = persist(host, "alias", "puts:" + rng.choice(versions), "prod", rng=rng)
            counts["alias moves"] += status == 0
        time.sleep(0.05)


def looks_before(host, name):
    """Makes this host see that an artifact has no aliases, removals and drafts yet.

    An NFS client remembers that for up to half a minute.
    """
    remove = ("rm", name + ":v0", "--dry-run")
    for args in (("list", name), ("show", name + ":v0"), remove, ("drafts", name), ("cat", name + ":nothing", "x")):
        run(host, *args)


def newcomer(host, me, rng):
    """Another host makes the first alias, removal or contribution a moment after this host saw that there is none."""
    n = 0
    while not stop.is_set():
        n += 1
        other = rng.choice(hosts)
        name = "new-%s-%d" % (me, n)
        paths = [source(rng, "%s %d" % (name, i)) for i in range(3)]
        first, second, third = (os.path.basename(p) for p in paths)
        ok = [
            persist(other, "put", name, paths[0], kill=0, rng=rng)[0],
            persist(other, "patch", name, paths[1], kill=0, rng=rng)[0],
        ]
        looks_before(host, name)
        kind = rng.randrange(3)
        if kind == 0:
            ok.append(persist(other, "alias", name + ":v0", "keep", kill=0, rng=rng)[0])
            status, out, err = persist(host, "rm", name + ":v0", kill=0, rng=rng)
            if ok == [0, 0, 0] and status != 3:
                wrong.append(
                    "%s:v0 was removed on %s although %s had named it: %s %s" % (name, host, other, status, err)
                )
        elif kind == 1:
            ok.append(persist(other, "rm", name + ":v1", kill=0, rng=rng)[0])
            status, out, err = persist(host, "patch", name, paths[2], kill=0, rng=rng)
            inside = set(run(host, "ls", name)[1].split())
            if ok == [0, 0, 0] and (status != 0 or inside != {first, third}):
                wrong.append(
                    "%s:v1 was removed on %s, then patched on %s: %s %s %s" % (name, other, host, status, inside, err)
                )
        else:
            ok.append(
                persist(other, "upsert", name, paths[2], "--run", me, "--distributed-id", "d", kill=0, rng=rng)[0]
            )
            status, out, err = persist(host, "finish", name, "--distributed-id", "d", "--skip-open", kill=0, rng=rng)
            if ok == [0, 0, 0] and status != 0:
                wrong.append(
                    "%s was contributed to on %s and not finished on %s: %s %s" % (name, other, host, status, err)
                )
        counts["new names"] += 1
        for path in paths:
            os.unlink(path)


def numbers(host):
    """Every number of versions and logs, as it is now, with the token that claimed it."""
    for directory, _, _ in os.walk(host + "/store/artifacts"):
        for name in os.listdir(directory):
            if NUMBER.fullmatch(name):
                try:
                    yield directory + "/" + name, os.readlink(directory + "/" + name).lstrip(".")
                except OSError:
                    pass


def fencer(host, rng):
    """Fences tokens at random, as if their holders were dead.

    A token that ended a moment before has no `record` any more, and its number is claimed: a fence then has no effect.
    """
    work = host + "/store/work"
    while not stop.is_set():
        try:
            tokens = os.listdir(work)
        except OSError:
            tokens = []
        for token in tokens:
            if rng.random() < 0.05:
                try:
                    os.symlink("fenced", "%s/%s/outcome" % (work, token))
                except OSError:
                    continue
                if not os.path.lexists("%s/%s/record" % (work, token)) and any(t == token for _, t in numbers(host)):
                    counts["fenced after their end"] += 1
                else:
                    fenced.add(token)
                    counts["fences"] += 1
        time.sleep(0.2)


def looker(host, rng):
    while not stop.is_set():
        for args in (["list"], ["list", "puts"], ["ls", "patched", "-R"], ["drafts"], ["locks"]):
            run(host, *args)
            counts["looks"] += 1


def verifier(host, rng):
    """Runs `cairn verify` while the others write. Notes about caches are allowed; a finding is a failure."""
    while not stop.is_set():
        args = ["verify", *rng.choice(([], [], ["puts"], ["patched"], ["drafts"])), *rng.choice(([], ["--quick"]))]
        status, out, err = run(host, *args)
        if status == 0:
            counts["verifies"] += 1
        elif status == 5:  # the disk was out of reach
            counts["verifies without the disk"] += 1
        elif not (status == 6 and len(args) > 1):  # an artifact that is not there yet
            with lock:
                wrong.append("%s on %s while others write: status %s %s %s" % (" ".join(args), host, status, out, err))


def holders(host, directory):
    """Number -> token of a log or of versions."""
    out = {}
    for name in os.listdir(directory):
        if NUMBER.fullmatch(name):
            out[int(name.lstrip("v"))] = os.readlink(directory + "/" + name)
    return out


def check(host):
    store = host + "/store/artifacts"
    for name, first in (("puts/versions", 0), ("patched/versions", 0), ("drafts/versions", 0)):
        path = store + "/" + name
        if not os.path.isdir(path):
            continue
        found = holders(host, path)
        if sorted(found) != list(range(first, first + len(found))):
            wrong.append("%s on %s is not dense: %s" % (name, host, sorted(found)))
        if len(set(found.values())) != len(found):
            wrong.append("%s on %s: a token has two numbers" % (name, host))
    for path, token in numbers(host):
        if token in fenced:
            wrong.append("%s holds a fenced token" % path)
    for spec, text in acknowledged["puts"]:
        status, out, err = run(host, "ls", spec)
        status2, content, _ = run(host, "cat", spec, out) if status == 0 else (1, "", "")
        if status2 != 0 or content != text:
            wrong.append("put %s on %s holds %r, acknowledged %r: %s" % (spec, host, content, text, err))
    tree = {}
    if acknowledged["patched"]:
        status, out, err = run(host, "ls", "patched", "-R")
        tree = set(out.splitlines())
        for path, text in acknowledged["patched"]:
            if path not in tree:
                wrong.append("patch %s is not in the newest version on %s" % (path, host))
    versions = collections.defaultdict(set)
    for draft, version in acknowledged["finished"]:
        versions[draft].add(version)
    for draft, names in versions.items():
        if len(names) != 1:
            wrong.append("%s came to %s" % (draft, names))
        status, out, err = run(host, "ls", next(iter(names)))
        inside = set(out.splitlines())
        for path, text in acknowledged[draft]:
            if path not in inside:
                wrong.append("%s was acknowledged for %s and is not in %s on %s" % (path, draft, names, host))
            elif path in digests:
                out = subprocess.run(
                    [cairn, "--store", host + "/store", "cat", next(iter(names)), path], capture_output=True
                ).stdout
                if hashlib.sha256(out).hexdigest() != digests[path]:
                    wrong.append("%s in %s on %s is not what was staged" % (path, names, host))
    status, out, err = run(host, "verify")
    if status != 0:
        wrong.append("verify on %s: status %s %s %s" % (host, status, out, err))


def main():
    if not os.path.exists("/dev/fuse"):
        print("no /dev/fuse: no process writes into staging directories", flush=True)
    status, _, err = run(hosts[0], "init")
    if status != 0:
        sys.exit("init: " + err)
    threads = []
    for i, host in enumerate(hosts):
        workers = (putter, patcher, contributor, mover, newcomer) + ((stager,) if os.path.exists("/dev/fuse") else ())
        for j, work in enumerate(workers):
            for k in range(2 if work in (putter, patcher, contributor) else 1):
                rng = random.Random(1000 * i + 100 * j + k)
                threads.append(threading.Thread(target=work, args=(host, "h%d%s%d" % (i, work.__name__[:2], k), rng)))
        threads.append(threading.Thread(target=fencer, args=(host, random.Random(7 + i))))
        threads.append(threading.Thread(target=looker, args=(host, random.Random(9 + i))))
        threads.append(threading.Thread(target=verifier, args=(host, random.Random(11 + i))))
    for t in threads:
        t.start()
    until = time.time() + seconds
    while time.time() < until:
        time.sleep(min(seconds / 4, 5))
        if cut:
            n = random.randrange(len(hosts)) + 1
            subprocess.run([cut, "down", str(n)], check=True)
            time.sleep(3)
            subprocess.run([cut, "up", str(n)], check=True)
            counts["cables cut"] += 1
    stop.set()
    for t in threads:
        t.join()
    time.sleep(3)
    for host in hosts:
        check(host)
    print(", ".join("%s %d" % (k, v) for k, v in sorted(counts.items())) + ", violations %d" % len(wrong), flush=True)
    for error, n in errors.most_common(8):
        print("  repeated %d times after: %s" % (n, error), flush=True)
    for w in wrong[:20]:
        print("  VIOLATION: " + w, flush=True)
    shutil.rmtree(TMP + "/cairn-sharedfs-cache-%d" % os.getpid(), ignore_errors=True)
    sys.exit(1 if wrong else 0)


main()
