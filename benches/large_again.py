"""What a put of a large file costs that grew or changed a little, against hashing it: processor time and clock.

    python3 benches/large_again.py DIR CAIRN...

DIR is where files and stores are made (some 8 GB for each command), each CAIRN a command to measure. All take their
turn on the same files, each with a store and a cache of its own, and next to them Python hashes the files, with SHA-256
of OpenSSL. Prints medians. MB (1000) is the size of a file that grows, DAYS (5) how often it grows by a hundredth,
ONLY a part of the name of the cases to measure:

- random: random bytes, to which a hundredth is appended. The first version is one object.
- lines: JSON lines, of which half was appended at once after the first put, so that it is in compressed parts.
- four: four files of 512 MiB with random bytes, in one of which 1 MiB is changed. The times of all are changed too, so
  that all are read again. They are hashed by two threads.
- first: first puts of four such files, and of 50,000 files of 4 KiB, without the hashing.
"""

import hashlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

place, commands = os.path.abspath(sys.argv[1]), sys.argv[2:]
size, days = int(os.environ.get("MB", "1000")) * 10**6, int(os.environ.get("DAYS", "5"))


def lines(count, seed):
    """JSON lines of `count` bytes."""
    dice, out, length = random.Random(seed), [], 0
    while length < count:
        a, score = dice.getrandbits(64), dice.randrange(1000)
        out.append('{"user": "u%06d", "score": 0.%03d, "text": "%x is item %d"}\n' % (a % 999983, score, a, len(out)))
        length += len(out[-1])
    return "".join(out).encode()[:count]


def cairn(number, *args):
    """Runs a command: seconds by the clock and of processor time."""
    own = {"CAIRN_STORE": f"{place}/store{number}", "CAIRN_CACHE_DIR": f"{place}/cache{number}"}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    subprocess.run([commands[number], *args], env={**os.environ, **own}, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.time() - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def hashed(path):
    digest, part = hashlib.sha256(), bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(part):
            digest.update(memoryview(part)[:length])


def hashing(paths):
    used, begun = time.process_time(), time.time()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(hashed, paths))
    return time.time() - begun, time.process_time() - used


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def begin(make):
    """An empty directory with the files that `make` makes, and a store for each command."""
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(f"{place}/src")
    make()
    os.sync()
    for number in range(len(commands)):
        cairn(number, "init", f"{place}/store{number}")


def rounds(name, paths, change):
    found = [[] for _ in commands]
    for day in range(days):
        change(day)
        os.sync()
        for number in range(len(commands)):
            before, put, after = hashing(paths), cairn(number, "put", "l", f"{place}/src"), hashing(paths)
            found[number].append([put[i] * 2 / (before[i] + after[i]) for i in (0, 1)] + list(put))
    for command, rows in zip(commands, found):
        clock, used, seconds, processor = (statistics.median(column) for column in zip(*rows))
        print(f"{name}: {command}: {clock:.2f} x hashing by the clock ({seconds:.2f} s), "
              f"{used:.2f} x in processor time ({processor:.2f} s)", flush=True)


def grows(name, more):
    path = f"{place}/src/file"
    begin(lambda: append(path, more(size // 2 if name == "lines" else size, 1)))
    for number in range(len(commands)):
        cairn(number, "put", "l", f"{place}/src")
    if name == "lines":
        append(path, more(size // 2, 2))
        for number in range(len(commands)):
            cairn(number, "put", "l", f"{place}/src")
    rounds(name, [path], lambda day: append(path, more(size // 100, 100 + day)))


def four_files():
    for number in range(4):
        for _ in range(512):
            with open(f"{place}/src/{number}", "ab") as file:
                file.write(os.urandom(1 << 20))


def four():
    paths = [f"{place}/src/{number}" for number in range(4)]
    begin(four_files)
    for number in range(len(commands)):
        cairn(number, "put", "l", f"{place}/src")

    def change(day):
        with open(paths[0], "r+b") as file:
            file.seek((37 + 11 * day) << 20)
            file.write(os.urandom(1 << 20))
        for path in paths:
            os.utime(path)

    rounds("four", paths, change)


def small_files():
    for number in range(50_000):
        os.makedirs(f"{place}/src/{number % 100}", exist_ok=True)
        with open(f"{place}/src/{number % 100}/{number}", "wb") as file:
            file.write(os.urandom(4096))


def first():
    for name, make in (("four files of 512 MiB", four_files), ("50,000 files of 4 KiB", small_files)):
        begin(make)
        found = [[] for _ in commands]
        for _ in range(days):
            for number in range(len(commands)):
                for what in ("store", "cache"):
                    shutil.rmtree(f"{place}/{what}{number}", ignore_errors=True)
                cairn(number, "init", f"{place}/store{number}")
                os.sync()
                found[number].append(cairn(number, "put", "l", f"{place}/src"))
        for command, rows in zip(commands, found):
            clock, used = (statistics.median(column) for column in zip(*rows))
            print(f"first put of {name}: {command}: {clock:.2f} s, {used:.2f} s of processor time", flush=True)


cases = {
    "random": lambda: grows("random", lambda count, _: os.urandom(count)),
    "lines": lambda: grows("lines", lines),
    "four": four,
    "first": first,
}
for name, case in cases.items():
    if os.environ.get("ONLY", "") in name:
        case()
shutil.rmtree(place, ignore_errors=True)
