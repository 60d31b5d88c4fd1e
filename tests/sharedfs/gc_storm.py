#!/usr/bin/env python3
"""Collections on several mounts ("hosts") of one store, while others write and read:
gc_storm.py CAIRN SECONDS HOST... [--seed N] [--with OTHER]...

On every host: two putters, a contributor that also finishes, and `cairn gc --min-age 0` in a loop; some of their
processes are killed. One process removes versions. On every host one reader gets versions, and on the last host another
one mounts them (with /dev/fuse) and compares every byte, while collections run on all hosts. At the end, on every host:
each acknowledged version that was not removed holds its bytes ("lost"), `cairn verify` finds nothing, and a last
collection on the first host finds nothing more to move, with an empty trash and no tokens ("left over"). It prints
counts and exits with 1 on any violation.

With `--with`, each command is one of CAIRN and the others, by chance: releases that use one store in turn and at once.
What is checked at the end is checked by each of them.
"""

import collections, hashlib, json, os, random, re, shutil, subprocess, sys, threading, time

args = sys.argv[1:]
seed = int(args.pop(args.index("--seed") + 1)) if "--seed" in args else 1
releases = []
while "--with" in args:
    at = args.index("--with")
    releases.append(args[at + 1])
    del args[at : at + 2]
cairn, seconds, *hosts = [a for a in args if a != "--seed"]
releases.insert(0, cairn)
seconds = float(seconds)
TMP = os.environ.get("TMPDIR", "/tmp") + "/cairn-gc-storm-%d" % os.getpid()
PATIENCE = 600
BOUND = 4  # seconds for which these mounts may cache names; a collection waits three times as long
counts, errors = collections.Counter(), collections.Counter()
published, removed, wrong = {}, set(), []
lock, stop = threading.Lock(), threading.Event()


def violation(text):
    with lock:
        wrong.append(text)


def run(host, *args, kill=0.0, rng=random, release=None):
    """Runs a command on a host's mount; (status, stdout, stderr), status None if it was killed."""
    release = release or rng.choice(releases)
    if len(releases) > 1:
        counts["commands of release %d" % (1 + releases.index(release))] += 1
    env = dict(os.environ, CAIRN_STORE=host + "/store", CAIRN_CACHE_DIR=TMP + "/cache-" + os.path.basename(host))
    child = subprocess.Popen([release, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if rng.random() < kill:
        time.sleep(rng.random() * (3 if args[0] == "gc" else 0.3))
        child.kill()
        counts["kills"] += child.poll() is None
    try:
        out, err = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        violation("no answer in %d s: %s" % (PATIENCE, " ".join(args)))
    return (None if child.returncode < 0 else child.returncode), out.strip(), err


def note(args, status, err):
    """An error that a command may have: it was refused, or its token was taken from it. Nothing was acknowledged."""
    if status in (3, 5):
        errors[args[0] + ": " + re.sub(r"/\S*|[0-9a-f]{30,}", "…", " ".join(err.split()))[:140]] += 1
    elif status is not None:
        violation("%s: status %s %s" % (" ".join(args), status, err))


def source(rng, path):
    """A directory from a small pool of content, so that the same content comes and goes."""
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path + "/d")
    files = {"big.bin": random.Random(rng.randrange(6)).randbytes(150_000)}
    for i in range(3):
        files["d/f%d" % i] = (b"small %d " % rng.randrange(12)) * 500
    for name, data in files.items():
        with open(path + "/" + name, "wb") as f:
            f.write(data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def content(path):
    found = {}
    for directory, _, names in os.walk(path):
        for name in names:
            with open(directory + "/" + name, "rb") as f:
                found[os.path.relpath(directory + "/" + name, path)] = hashlib.sha256(f.read()).hexdigest()
    return found


def acknowledge(args, status, out, err, files):
    if status == 0:
        with lock:
            published[out] = files
        counts["versions"] += 1
    else:
        note(args, status, err)


def putter(host, me, rng):
    while not stop.is_set():
        files = source(rng, TMP + "/" + me)
        args = ("put", "p%d" % rng.randrange(2), TMP + "/" + me, "--new-version")
        status, out, err = run(host, *args, kill=0.1, rng=rng)
        acknowledge(args, status, out, err, files)


def contributor(host, me, rng):
    n = 0
    while not stop.is_set():
        n += 1
        draft, files, whole = "%s-%d" % (me, n), {}, True
        for part in ("r1", "r2"):
            own = source(rng, TMP + "/" + me)
            args = ("upsert", "e", TMP + "/" + me, "--distributed-id", draft, "--run", part, "--at", part)
            status, _, err = run(host, *args, kill=0.1, rng=rng)
            note(args, status if status else None, err)
            whole = whole and status == 0
            files.update({part + "/" + name: digest for name, digest in own.items()})
        args = ("finish", "e", "--distributed-id", draft)
        status, out, err = run(host, *args, kill=0.1, rng=rng)
        if whole:
            acknowledge(args, status, out, err, files)


def collector(host, me, rng):
    while not stop.is_set():
        args = ("gc", "--min-age", "0", "--json")
        status, out, err = run(host, *args, kill=0.15, rng=rng)
        if status == 0:
            report = json.loads(out)
            counts["collections"] += 1
            counts["freed"] += report["freed"]["files"]
            counts["collections that waited"] += bool(report["waits_for"])
            counts["met another collection"] += bool(report.get("other_collections"))
            counts["taken over"] += report.get("taken_over", 0)
        elif status is not None:
            violation("gc on %s: status %s %s" % (host, status, err))


def remover(host, me, rng):
    while not stop.is_set():
        time.sleep(0.3)
        with lock:
            names = sorted(published)
            if len(names) < 8:
                continue
            name = rng.choice(names)
            removed.add(name)
        status, _, err = run(host, "rm", name, "--force")
        with lock:
            files = published.pop(name)
            if status == 0:
                counts["removed"] += 1
            elif status in (None, 5):
                counts["removal unknown"] += 1
            else:
                published[name] = files
                removed.discard(name)
                errors["rm: " + " ".join(err.split())[:140]] += 1


def one(rng):
    with lock:
        return (lambda name: (name, published[name]))(rng.choice(sorted(published))) if published else (None, None)


def getter(host, me, rng):
    while not stop.is_set():
        name, files = one(rng)
        if not name:
            time.sleep(0.1)
            continue
        out = TMP + "/" + me
        status, _, err = run(host, "get", name, out)
        compare("get", host, name, files, out, status, err)
        shutil.rmtree(out, ignore_errors=True)


def compare(how, host, name, files, path, status, err):
    """A removed version may give an error, never other bytes."""
    try:
        found = content(path) if status == 0 else None
    except OSError as e:
        found, err = None, str(e)
    if found == files:
        counts["read by " + how] += 1
    elif found is not None or name not in removed:
        violation("%s of %s on %s: %s %s" % (how, name, host, err, found and sorted(found)))
    else:
        counts["removed while it was read"] += 1


def mounter(host, me, rng):
    mnt = TMP + "/mnt"
    os.makedirs(mnt, exist_ok=True)
    while not stop.is_set():
        name, files = one(rng)
        if not name:
            time.sleep(0.1)
            continue
        status, _, err = run(host, "mount", mnt, name)
        if status != 0:
            if name not in removed:
                violation("mount of %s on %s: %s %s" % (name, host, status, err))
            continue
        for _ in range(3):
            compare("mount", host, name, files, mnt, 0, "")
            time.sleep(rng.random())
        status, _, err = run(host, "umount", mnt)
        if status != 0:
            violation("umount: %s %s" % (status, err))


def start(work, host, me, n):
    thread = threading.Thread(target=work, args=(host, me, random.Random(1000 * seed + n)))
    thread.start()
    return thread


def check():
    """Nothing is lost, and nothing is left over."""
    first = hosts[0]
    for draft in json.loads(run(first, "drafts", "--json")[1] or "[]"):
        status, _, err = run(first, "draft", "discard", draft["artifact"], draft["distributed_id"])
        if status != 0:
            violation("draft discard: " + err)
    report = {}
    for _ in range(3):
        status, out, err = run(first, "gc", "--min-age", "0", "--wait", "--json", release=cairn)
        if status != 0:
            violation("the last gc: %s %s" % (status, err))
            return
        report = json.loads(out)
    left = report["moved"]["files"] + report["freed"]["files"] + report["in_trash"]["files"]
    stays = []
    for directory in ("trash", "work", "pins"):
        for path, _, names in list(os.walk(first + "/store/" + directory))[1:]:
            stays.append("%s: %s" % (path[len(first) :], " ".join(names)))
    counts["left over"] = left + len(stays)
    if left or stays:
        violation("left over: %s %s" % (stays, report))
    counts["lost"] = 0
    for host, release in [(host, release) for host in hosts for release in releases]:
        status, out, err = run(host, "verify", release=release)
        if status != 0:
            lines = [line for line in out.splitlines() if "F6-pack" not in line]
            violation("verify by %s on %s: %s %s %s" % (release, host, status, "\n".join(lines)[-1200:], err))
        for name, files in published.items():
            status, _, err = run(host, "get", name, TMP + "/final", release=release)
            if status != 0 or content(TMP + "/final") != files:
                counts["lost"] += 1
                violation("%s is lost on %s: %s" % (name, host, err))
            shutil.rmtree(TMP + "/final", ignore_errors=True)


def main():
    os.makedirs(TMP)
    status, _, err = run(hosts[0], "init", "--cache-bound", str(BOUND))
    if status != 0:
        sys.exit("init: " + err)
    work = [(w, host) for host in hosts for w in (putter, putter, contributor, collector, getter)]
    work.append((remover, hosts[0]))
    if os.path.exists("/dev/fuse"):
        work.append((mounter, hosts[-1]))
    else:
        print("no /dev/fuse: no version is mounted", flush=True)
    threads = [start(w, host, "%s%d" % (w.__name__, n), n) for n, (w, host) in enumerate(work)]
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    check()
    print(", ".join("%s %d" % (k, v) for k, v in sorted(counts.items())) + ", violations %d" % len(wrong), flush=True)
    for error, n in errors.most_common(8):
        print("  %d times %s" % (n, error), flush=True)
    for w in wrong[:20]:
        print("  VIOLATION: " + w[:1500], flush=True)
    shutil.rmtree(TMP, ignore_errors=True)
    sys.exit(1 if wrong else 0)


main()
