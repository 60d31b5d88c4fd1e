#!/usr/bin/env python3
"""The workload of tests/powercut/run, and the check after a cut.

work.py load CAIRN STORE DIR ID ACKS SEED   works until SIGTERM; writes each attempt and each acknowledgement to ACKS,
                                            one a line
work.py neighbour DIR                       writes and syncs files of its own until SIGTERM
work.py check CAIRN STORE DIR ACKS_DIR      compares a store with the acknowledgements and prints a line; exits with 1
                                            if anything is lost
"""

import itertools, json, os, random, shutil, signal, subprocess, sys, time


def pool(i):
    return random.Random(f"pool {i}").randbytes(128 * 1024 + i * 1000 if i % 2 else 3000 + i)


def tree(kind, seed):
    """Path to bytes. Some contents come from a pool that all workers share, so that they find each other's content."""
    r = random.Random(f"{kind} {seed}")
    files = {}
    if kind == "few":
        for i in range(r.randint(1, 5)):
            files[f"d{i % 2}/f{i}"] = r.randbytes(r.randint(0, 20_000))
        files["pool"] = pool(r.randrange(0, 40, 2))
    elif kind == "big":
        files["own"] = r.randbytes(r.randint(131_072, 400_000))
        files["pool"] = pool(r.randrange(1, 40, 2))
    elif kind == "many":
        for i in range(200):
            files[f"d{i % 7}/f{i:03}"] = r.randbytes(r.randint(0, 3000))
    elif kind == "twin":  # the same for all workers that put within the same two seconds
        for i in range(6):
            files[f"large{i}"] = r.randbytes(131_072 + 5000 * i)
        for i in range(40):
            files[f"small{i:02}"] = r.randbytes(2000)
    elif kind == "larges":  # 64 new object files and more: one syncfs instead of a sync for each
        for i in range(70):
            files[f"big/{i:02}"] = r.randbytes(131_072 + i)
    elif kind == "grown":  # `seed` is CHAIN-STEP: the file of the step before, a little changed
        files["grown"] = grown(*seed.rsplit("-", 1))
    return files


def grown(chain, step):
    """A large file after `step` changes: the store composes it of parts of the one before and what is new."""
    data = bytearray(random.Random(f"grown {chain}").randbytes(1_300_000))
    for i in range(1, int(step) + 1):
        r = random.Random(f"grown {chain} {i}")
        at = r.randrange(len(data))
        if i % 6 == 1:  # long lines of text: they are packed, in compressed frames
            data[at:at] = b"".join(b"%d: %08x\n" % (n, r.getrandbits(32)) for n in range(r.randint(10_000, 20_000)))
        elif i % 3 == 0:
            data += r.randbytes(r.randint(1000, 300_000))
        elif i % 3 == 1:
            data[at:at] = r.randbytes(r.randint(1, 200_000))
        else:
            data[at : at + 5000] = r.randbytes(5000)
        if len(data) > 6_000_000:
            del data[: len(data) - 2_000_000]
    return bytes(data)


def write_tree(files, to):
    shutil.rmtree(to, ignore_errors=True)
    for path, data in files.items():
        at = os.path.join(to, path)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        with open(at, "wb") as f:
            f.write(data)


def read_tree(root):
    out = {}
    for base, _, names in os.walk(root):
        for name in names:
            at = os.path.join(base, name)
            with open(at, "rb") as f:
                out[os.path.relpath(at, root)] = f.read()
    return out


class Cairn:
    def __init__(self, command, store, cache):
        self.command, self.store = command, store
        self.second = os.path.join(os.path.dirname(store), "second")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")} | {"CAIRN_CACHE_DIR": cache}

        self.prefix = []

    def slow_down(self):
        """From now on each command waits before a sync of the whole file system: others find its unsynced files.

        This needs strace.
        """
        if shutil.which("strace"):
            self.prefix = [
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=syncfs",
                "-e",
                "inject=syncfs:delay_enter=400000",
            ]

    def run(self, *args):
        return subprocess.run(
            [*self.prefix, self.command, "--store", self.store, "-q", *args], env=self.env, capture_output=True
        )


def load(command, store, dir, worker, acks, seed):
    r = random.Random(f"{seed} {worker}")
    cairn = Cairn(command, store, dir + ".cache")
    if worker == "1":
        cairn.slow_down()
    out = os.open(acks, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    say = lambda **line: os.write(out, (json.dumps(line) + "\n").encode())
    n, own, stop, draft, contributed, steps = 0, [], [], 0, 0, 0
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    while not stop:
        n += 1
        op = r.choices(
            ["few", "big", "twin", "many", "larges", "grown", "again"] +
            ["alias", "rm", "upsert", "finish", "patch", "copy"],
            [50, 20, 30, 8, 5, 25, 5, 10, 4, 30, 5, 20, 8],
        )[0]
        if op in ("alias", "rm", "again", "copy") and not own:
            op = "few"
        if op == "upsert":
            # Each worker has a draft of its own at a time; each contribution is a directory in it.
            kind, content, run = r.choice(["few", "few", "big"]), f"{worker}-{n}", f"r{n}"
            write_tree(tree(kind, content), dir)
            args = ["upsert", "drafts", dir, "--at", run, "--run", run, "--distributed-id", f"{worker}-{draft}"]
            done = cairn.run(*args)
            if done.returncode == 0:
                say(t="ok", op="upsert", draft=f"{worker}-{draft}", run=run, kind=kind, seed=content)
                contributed += 1
        elif op == "finish":
            if not contributed:
                continue
            say(t="try", op="finish", draft=f"{worker}-{draft}")
            done = cairn.run("finish", "drafts", "--distributed-id", f"{worker}-{draft}", "--json")
            if done.returncode == 0:
                got = json.loads(done.stdout)
                say(
                    t="ok",
                    op="finish",
                    draft=f"{worker}-{draft}",
                    number=int(got["version"].lstrip("v")),
                    digest=got["digest"],
                )
                draft, contributed = draft + 1, 0
        elif op == "patch":
            # Each worker has a chain of patches of its own; each patch adds a directory.
            content, at = f"{worker}-{n}", f"p{n}"
            write_tree(tree("few", content), dir)
            done = cairn.run("patch", f"chain{worker}", dir, "--at", at, "--create", "--json")
            if done.returncode == 0:
                got = json.loads(done.stdout)
                say(
                    t="ok",
                    op="patch",
                    name=f"chain{worker}",
                    number=int(got["version"].lstrip("v")),
                    digest=got["digest"],
                    at=at,
                    kind="few",
                    seed=content,
                )
        elif op == "copy":
            name, number, _ = r.choice(own)
            done = cairn.run("copy", f"{name}:v{number}", name, "--to", cairn.second, "--json")
            if done.returncode == 0:
                got = json.loads(done.stdout)
                say(t="ok", op="copy", name=name, number=int(got["version"].lstrip("v")), digest=got["digest"])
        elif op == "alias":
            name, number, _ = r.choice(own)
            alias = f"mine-{worker}"
            say(t="try", op="alias", name=name, alias=alias, number=number)
            done = cairn.run("alias", f"{name}:v{number}", alias)
            if done.returncode == 0:
                say(t="ok", op="alias", name=name, alias=alias, number=number)
        elif op == "rm":
            i = r.randrange(len(own))
            name, number, _ = own.pop(i)
            say(t="try", op="rm", name=name, number=number)
            done = cairn.run("rm", f"{name}:v{number}")
            if done.returncode == 0:
                say(t="ok", op="rm", name=name, number=number)
        else:
            name = r.choice(["shared", "shared", f"own{worker}"])
            # "again": content that may equal the newest version's, with a tag; then a note is the only change.
            kind, content = r.choice(own)[2] if op == "again" else (op, f"{worker}-{n}")
            if op == "grown":
                name, steps = f"grown{worker}", steps + 1
                content = f"{worker}.{seed}-{steps}"
            if op == "twin":
                content = f"at {int(time.time() / 2)}"
            tag = f"t{worker}-{n}"
            write_tree(tree(kind, content), dir)
            args = ["put", name, dir, "--json"] + (["--tag", tag] if op == "again" else [])
            say(t="try", op="put", name=name, kind=kind, seed=content)
            done = cairn.run(*args)
            if done.returncode == 0:
                got = json.loads(done.stdout)
                number = int(str(got["version"]).lstrip("v"))
                say(
                    t="ok",
                    op="put",
                    name=name,
                    number=number,
                    digest=got["digest"],
                    kind=kind,
                    seed=content,
                    tag=tag if op == "again" else None,
                )
                own.append((name, number, (kind, content)))
        # Refused, or another worker removed that version: nothing was acknowledged.
        if done.returncode not in (0, 3) and not (done.returncode == 6 and op in ("alias", "rm", "copy")):
            print(
                f"{op}: {done.returncode} {done.stderr.decode(errors='replace').strip()[:300]}",
                file=sys.stderr,
                flush=True,
            )


def neighbour(dir):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    for i in itertools.takewhile(lambda _: not stop, itertools.count()):
        at = os.open(f"{dir}/{i % 250}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.write(at, os.urandom(135_000))
        os.fsync(at)
        os.close(at)


def check(command, store, dir, acks):
    cairn = Cairn(command, store, dir + ".cache")
    shutil.rmtree(dir + ".cache", ignore_errors=True)
    versions, removing, removed, alias_ok, alias_try, order = {}, set(), set(), {}, {}, []
    tags, drafts, finished, copies, chains = [], {}, {}, [], []
    for name in sorted(os.listdir(acks)):
        for line in open(os.path.join(acks, name)):
            if not line.endswith("\n"):
                continue
            a = json.loads(line)
            if a["op"] == "put" and a["t"] == "ok":
                versions[a["name"], a["number"]] = a
                order.append((a["name"], a["number"]))
                if a["tag"]:
                    tags.append(a)
            elif a["op"] == "patch":
                chains.append(a)
            elif a["op"] == "copy":
                copies.append(a)
            elif a["op"] == "upsert":
                drafts.setdefault(a["draft"], []).append(a)
            elif a["op"] == "finish":
                if a["t"] == "ok":
                    finished[a["draft"]] = a
            elif a["op"] == "rm":
                (removing if a["t"] == "try" else removed).add((a["name"], a["number"]))
            elif a["op"] == "alias":
                key = (a["name"], a["alias"])
                if a["t"] == "ok":
                    alias_ok[key] = a["number"]
                    alias_try[key] = set()
                alias_try.setdefault(key, set()).add(a["number"])
    wrong = []
    lost = lambda what: wrong.append(what)
    done = cairn.run("verify", "--json")
    report = (
        json.loads(done.stdout)
        if done.returncode in (0, 1)
        else {"findings": [{"code": "F?", "what": done.stderr.decode(errors="replace")}]}
    )
    for f in report["findings"]:
        lost(f"verify: {f}")
    second = Cairn(command, cairn.second, dir + ".cache")
    done = second.run("verify")
    if done.returncode != 0:
        lost(
            f"verify of the second store: {done.stdout.decode(errors='replace')} {done.stderr.decode(errors='replace')}"
        )
    for a in copies:
        done = second.run("show", f"{a['name']}:v{a['number']}", "--json")
        if done.returncode != 0 or json.loads(done.stdout)["digest"] != a["digest"]:
            lost(f"acknowledged copy {a['name']}:v{a['number']} is not in the second store")
    listed, present, dense = {}, {}, 0
    artifacts = os.path.join(store, "artifacts")

    def numbers_of(name):
        versions = os.path.join(artifacts, name, "versions")
        there = os.listdir(versions) if os.path.isdir(versions) else []  # the cut may come while an artifact is made
        return sorted(int(v[1:]) for v in there if v.startswith("v"))

    for name in sorted(os.listdir(artifacts)):
        numbers = numbers_of(name)
        present[name] = numbers
        if numbers != list(range(len(numbers))):
            lost(f"{name}: numbers {numbers} are not dense")
        dense += len(numbers)
        if numbers:
            done = cairn.run("list", name, "--json")
            if done.returncode != 0:
                lost(f"list {name}: {done.stderr.decode(errors='replace')}")
                continue
            got = json.loads(done.stdout)
            for v in got if isinstance(got, list) else got["versions"]:
                listed[name, int(str(v["version"]).lstrip("v"))] = v
    for key, a in versions.items():
        if key in removing:
            continue
        if key not in listed:
            lost(f"acknowledged {key} is gone")
        elif listed[key]["digest"] != a["digest"]:
            lost(f"{key} has digest {listed[key]['digest']}, acknowledged was {a['digest']}")
    for a in chains:
        key = (a["name"], a["number"])
        if key not in listed or listed[key]["digest"] != a["digest"]:
            lost(f"acknowledged patch {key} is gone or another")
    for a in random.sample(chains, min(8, len(chains))):  # what one patch added is in the chain's newest version
        shutil.rmtree(dir, ignore_errors=True)
        done = cairn.run("get", a["name"], dir, "--path", a["at"])
        wanted = {f"{a['at']}/{path}": data for path, data in tree(a["kind"], a["seed"]).items()}
        if done.returncode != 0 or read_tree(dir) != wanted:
            lost(f"{a['name']} does not have what patch v{a['number']} added")
    for key in removed & set(listed):
        lost(f"acknowledged removal of {key} is undone")
    for a in tags:
        key = (a["name"], a["number"])
        if key in listed and a["tag"] not in listed[key].get("tags", [a["tag"]]):
            lost(f"acknowledged tag {a['tag']} of {key} is gone")
    for (name, alias), number in alias_ok.items():
        done = cairn.run("show", f"{name}:{alias}", "--json")
        got = int(str(json.loads(done.stdout)["version"]).lstrip("v")) if done.returncode == 0 else None
        if got not in alias_try[name, alias]:
            lost(f"alias {name}:{alias} is at {got}, acknowledged {number}, then tried {alias_try[name, alias]}")
    # Every acknowledged contribution is in its draft's version: the version that was acknowledged, or else the one
    # that a finish makes now.
    for id, parts in drafts.items():
        done = cairn.run("finish", "drafts", "--distributed-id", id, "--skip-open", "--json")
        if done.returncode != 0:
            lost(f"draft {id} cannot be finished: {done.stderr.decode(errors='replace')}")
            continue
        got = json.loads(done.stdout)
        number = int(got["version"].lstrip("v"))
        before = finished.get(id)
        if before and (before["number"], before["digest"]) != (number, got["digest"]):
            lost(f"draft {id} was finished as v{before['number']}, and is v{number} now")
        shutil.rmtree(dir, ignore_errors=True)
        done = cairn.run("get", f"drafts:v{number}", dir)
        there = read_tree(dir) if done.returncode == 0 else {}
        for a in parts:
            wanted = {f"{a['run']}/{path}": data for path, data in tree(a["kind"], a["seed"]).items()}
            if any(there.get(path) != data for path, data in wanted.items()):
                lost(f"acknowledged contribution {a['run']} of draft {id} is not in v{number}")
    # Compare byte by byte: the newest twelve versions of all workers, unacknowledged ones, and a sample.
    live = [k for k in order if k in listed]
    chosen = set(live[-12:]) | set(random.sample(live, min(12, len(live))))
    for name in present:
        chosen |= {(name, n) for n in present[name][-4:] if (name, n) in listed}
    unknown = 0
    for key in chosen:
        shutil.rmtree(dir, ignore_errors=True)
        done = cairn.run("get", f"{key[0]}:v{key[1]}", dir)
        if done.returncode != 0:
            lost(f"get {key}: {done.stderr.decode(errors='replace')}")
        elif key in versions:
            if read_tree(dir) != tree(versions[key]["kind"], versions[key]["seed"]):
                lost(f"{key} has other bytes than were put")
        else:
            unknown += 1  # published and not acknowledged when the power went: whole, as verify and get say
    present = {name: numbers_of(name) for name in present}
    for name in list(present) + ["fresh"]:
        files = tree("few", f"after {name}") | tree("big", "after")
        write_tree(files, dir + ".next")
        done = cairn.run("put", name, dir + ".next", "--json")
        if done.returncode != 0:
            lost(f"the next put of {name}: {done.stderr.decode(errors='replace')}")
            continue
        number = int(str(json.loads(done.stdout)["version"]).lstrip("v"))
        numbers = numbers_of(name)
        # It first claims the numbers of committed tokens whose writers died in the power cut.
        if numbers != list(range(number + 1)) or number < len(present.get(name, [])):
            lost(f"the next put of {name} has number {number}, there are {numbers}")
        shutil.rmtree(dir, ignore_errors=True)
        if cairn.run("get", f"{name}:v{number}", dir).returncode != 0 or read_tree(dir) != files:
            lost(f"{name}:v{number}, put after the cut, cannot be had")
    shutil.rmtree(dir, ignore_errors=True)
    notes = len(report.get("notes", []))
    print(
        f"{len(versions)} versions acknowledged, {dense} there, {len(chosen)} compared ({unknown} unacknowledged), "
        f"{len(removed)} removals, "
        f"{len(alias_ok)} aliases, {len(tags)} tags, {sum(map(len, drafts.values()))} contributions, "
        f"{len(finished)} finishes, {len(chains)} patches, {len(copies)} copies, "
        f"{notes} notes of verify: {len(wrong)} lost",
        flush=True,
    )
    for what in wrong[:10]:
        print(f"  {what}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(*sys.argv[2:])
    elif sys.argv[1:2] == ["neighbour"]:
        neighbour(*sys.argv[2:])
    elif sys.argv[1:2] == ["check"]:
        sys.exit(check(*sys.argv[2:]))
    else:
        print(__doc__)
        sys.exit(2)
