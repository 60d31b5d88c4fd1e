"""Files as programs write them, for the benchmark `chunks`: SQLite and Parquet, before and after a change.

chunks_files.py sqlite append|update MEGABYTES BEFORE AFTER
chunks_files.py parquet append|update|column MEGABYTES BEFORE AFTER
chunks_files.py parquet-days MEGABYTES FILE PERCENT   writes FILE, and again with that much more for each line that it
                                                      reads; prints a line each time

chunks_files.py lines jsonl|csv MEGABYTES FILE       lines as the benchmark `chunks` makes, the rows of the CSV shuffled

Exits with 3 if it needs a module that is not installed (Parquet: pyarrow and numpy).
"""

import os, random, shutil, sqlite3, sys


def lines(kind, megabytes, path):
    r, out, size, i = random.Random(2), [], 0, 0
    while size < megabytes * 1_000_000:
        a, b = r.getrandbits(64), r.randrange(1000)
        if kind == "jsonl":
            user, text = f"u{a % 999_983:06}", f"{a:x} is item {i}"
            line = f'{{"id": {i}, "user": "{user}", "score": 0.{b:03}, "text": "{text}"}}\n'
        else:
            line = f"{i},{a % 5000},{r.getrandbits(64):x}\n"
        out.append(line)
        size += len(line)
        i += 1
    if kind == "csv":
        r.shuffle(out)
    with open(path, "w") as file:
        file.writelines(out)


def rows_of_items(r, first, count):
    return ((i, f"user{r.randrange(99_991)}", r.random(), r.randbytes(100).hex()) for i in range(first, first + count))


def sqlite(change, megabytes, before, after):
    count, r = megabytes * 3600, random.Random(1)
    for path in (before, after):
        if os.path.exists(path):
            os.remove(path)
    database = sqlite3.connect(before)
    database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, user TEXT, score REAL, body TEXT)")
    database.execute("CREATE INDEX by_user ON items (user)")
    database.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows_of_items(r, 0, count))
    database.commit()
    database.close()
    shutil.copyfile(before, after)
    database = sqlite3.connect(after)
    if change == "append":
        database.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows_of_items(r, count, count // 100))
    else:
        changed = r.sample(range(count), count // 1000)
        database.executemany("UPDATE items SET score = ? WHERE id = ?", ((r.random(), i) for i in changed))
    database.commit()
    database.close()


def columns(numpy, group, rows):
    r = numpy.random.default_rng(group)
    return {
        "id": numpy.arange(group * rows, (group + 1) * rows),
        "user": r.integers(0, 99_991, rows),
        "score": r.random(rows),
        "amount": r.normal(size=rows),
        "kind": numpy.array(["view", "click", "order", "return"])[r.integers(0, 4, rows)],
    }


def write_parquet(path, groups):
    import pyarrow, pyarrow.parquet

    writer = None
    for group in groups:
        table = pyarrow.table(group)
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


ROWS, BYTES = 32_768, 1_037_000  # rows of a row group, and about how long it is


def parquet(change, megabytes, before, after):
    import numpy

    count = max(2, megabytes * 1_000_000 // BYTES)
    groups = lambda n: (columns(numpy, i, ROWS) for i in range(n))
    write_parquet(before, groups(count))
    if change == "append":
        write_parquet(after, groups(count + max(1, count // 100)))
        return

    def changed(i, group):
        if change == "column":
            group["more"] = numpy.random.default_rng(10_000 + i).random(ROWS)
        elif i % 100 == 50:  # one row in a hundred of the rows is changed, all of them near each other
            group["score"] = numpy.random.default_rng(20_000 + i).random(ROWS)
        return group

    write_parquet(after, (changed(i, group) for i, group in enumerate(groups(count))))


class Rest:
    """The end of a file for pyarrow, which counts the bytes that it writes: as many as the file has are left out."""

    def __init__(self, file, skipped):
        self.file, self.skipped, self.closed = file, skipped, False

    def write(self, data):
        skipped = min(self.skipped, len(data))
        self.skipped -= skipped
        self.file.write(memoryview(data)[skipped:])
        return len(data)

    def flush(self):
        pass

    def close(self):
        self.closed = True


def without_footer(file):
    """Cuts the footer off a Parquet file. Returns where it began."""
    size = file.seek(-8, os.SEEK_END) + 8
    begin = size - 8 - int.from_bytes(file.read(4), "little")
    file.truncate(begin)
    return file.seek(begin)


def append_to_parquet(path, groups):
    """Writes the bytes that writing all groups again would write, but only those that are new."""
    import pyarrow, pyarrow.parquet

    known = pyarrow.parquet.read_metadata(path)
    with open(path, "rb+") as file:
        begin = without_footer(file)
        sink = pyarrow.PythonFile(Rest(file, begin), mode="w")
        writer = pyarrow.parquet.ParquetWriter(sink, groups[0].schema)
        zeros = memoryview(bytes(16 << 20))
        while sink.tell() < begin:  # so that the new footer has the right offsets
            sink.write(zeros[: begin - sink.tell()])
        for group in groups:
            writer.write_table(group)
        writer.close()
    known.append_row_groups(pyarrow.parquet.read_metadata(path))
    footer = pyarrow.BufferOutputStream()
    known.write_metadata_file(footer)
    with open(path, "rb+") as file:
        without_footer(file)
        file.write(footer.getvalue().to_pybytes()[4:])  # without the mark at the beginning of a file


def parquet_days(megabytes, path, percent):
    import numpy, pyarrow

    count = max(2, megabytes * 1_000_000 // BYTES)
    write_parquet(path, (pyarrow.table(columns(numpy, i, ROWS)) for i in range(count)))
    rows = max(1, int(ROWS * count * percent / 100))
    for day in range(1_000_000):
        print(day, flush=True)
        if not sys.stdin.readline():
            return
        sizes = [min(ROWS, rows - done) for done in range(0, rows, ROWS)]
        made = (columns(numpy, 1_000_000 + 1000 * day + i, size) for i, size in enumerate(sizes))
        append_to_parquet(path, [pyarrow.table(group) for group in made])


if __name__ == "__main__":
    what, args = sys.argv[1], sys.argv[2:]
    try:
        if what == "lines":
            lines(args[0], int(args[1]), args[2])
        elif what == "parquet-days":
            parquet_days(int(args[0]), args[1], float(args[2]))
        else:
            {"sqlite": sqlite, "parquet": parquet}[what](args[0], int(args[1]), args[2], args[3])
    except ImportError as e:
        print(e, file=sys.stderr)
        sys.exit(3)
