"""What the classes do, on real stores."""

import datetime
import errno
import fcntl
import io
import multiprocessing
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import zipfile

import cairn
import pytest
from cairn._mount import find_command


def save(store, files, name="images", **more):
    artifact = cairn.Artifact(name, "dataset", **more)
    for path, data in files.items():
        artifact.add_bytes(path, data)
    return artifact.save(store)


def test_a_version_says_what_it_is_and_has(store):
    version = save(
        store,
        {"a/1.txt": b"one", "b.txt": "zwei"},
        description="two",
        metadata={"lr": 0.1, "nan": float("nan")},
        tags=["small"],
        aliases=["prod"],
    )
    assert (version.name, version.version, version.number, version.type) == ("images", "v0", 0, "dataset")
    assert version.qualified_name == str(version.store.version("images:prod").qualified_name) == "images:v0"
    assert (version.size, version.file_count, len(version)) == (7, 2, 2)
    assert len(version.digest) == 64 and version.created_at.endswith("Z")
    assert version.description == "two" and version.metadata == {"lr": 0.1, "nan": None}
    assert version.tags == ["small"] and version.aliases == ["latest", "prod"]
    version.annotate(description="2", add_tags=["good"], remove_tags=["small"])
    version.remove_alias("prod")
    version.add_alias("best")
    assert (version.description, version.tags, version.aliases) == ("2", ["good"], ["latest", "best"])
    assert version.metadata["lr"] == 0.1
    assert save(store, {"a/1.txt": b"one", "b.txt": "zwei"}) == version, "the same content is the same version"
    assert store.artifacts() == ["images"] and store.versions("images") == [version]
    assert store.exists("images:best") and not store.exists("images:v7")


def test_entries_are_listed_lazily_and_found_by_number(store):
    artifact = cairn.Artifact("many")
    for n in range(1000):
        artifact.add_bytes(f"d{n % 10}/{n:04}", str(n))
    artifact.add_reference("s3://bucket/far.bin", checksum=False)
    os.symlink("x", "link")
    version = artifact.save(store)
    files = version.files()
    assert iter(files) is files
    paths = [entry.path for entry in files]
    assert len(paths) == 1001 and paths == sorted(paths)
    assert [version.file_at(n).path for n in (0, 500, 1000)] == [paths[0], paths[500], "far.bin"]
    assert [e.path for e in version.files(start="d9/0900")] == [
        *[p for p in paths if p >= "d9/0900" and p < "f"],
        "far.bin",
    ]
    assert sum(entry.kind == "directory" for entry in version.entries()) == 10
    far = version.entry("far.bin")
    assert (far.kind, far.uri, far.size) == ("reference", "s3://bucket/far.bin", None)
    one = version.entry("d1/0001")
    assert (one.kind, one.size, one.executable, one.target) == ("file", 1, False, None)
    assert "d1" in version and "d1/0001" in version and "d1/x" not in version
    with pytest.raises(cairn.NotFoundError) as e:
        version.file_at(1001)
    assert "1001 files" in e.value.hint


def test_files_are_read_at_any_position(store):
    large = os.urandom(3 << 20)
    version = save(store, {"small": b"0123456789", "large": large, "text": "é\nzwei\n"})
    for path, data in (("small", b"0123456789"), ("large", large)):
        with version.open(path) as f:
            assert f.size == len(data) and f.seekable()
            assert f.read(3) == data[:3]
            assert f.seek(-4, os.SEEK_END) == len(data) - 4 and f.read() == data[-4:] and f.read() == b""
            assert f.seek(5) == 5 and f.read(2) == data[5:7] and f.tell() == 7
            with pytest.raises(ValueError):
                f.seek(-1)
    assert version.read_bytes("large") == large == version.read_bytes(0)
    assert list(version.open("text", "r")) == ["é\n", "zwei\n"]
    with pytest.raises(ValueError):
        version.open("text", "w")
    with pytest.raises(cairn.NotFoundError, match="there is no nothing in images:v0"):
        version.open("nothing")
    with pytest.raises(LookupError):
        version.open("nothing")


def test_a_zip_file_is_read_where_it_is(store):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("in/side.txt", "found")
    version = save(store, {"a.zip": out.getvalue()})
    with zipfile.ZipFile(version.open("a.zip")) as z:
        assert z.read("in/side.txt") == b"found"


def test_many_files_are_read_in_the_order_asked_for(store):
    version = save(store, {f"{n:03}": f"content {n}" for n in range(300)})
    order = [(n * 37) % 300 for n in range(300)]
    want = [f"content {n}".encode() for n in order]
    assert version.read_many(order) == want
    assert version.read_many([f"{n:03}" for n in order], threads=1) == want
    assert version.read_many([]) == []
    with pytest.raises(cairn.NotFoundError, match="number 300"):
        version.read_many([0, 300, 1], threads=4)


def test_directories_files_and_new_files_are_added(store, tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "in/sub/run.sh").chmod(0o755)
    (tmp_path / "in/skip.tmp").write_text("no")
    artifact = cairn.Artifact("mixed", "model")
    artifact.add_dir("in", "code", exclude=["*.tmp"])
    artifact.add_file(tmp_path / "in/sub/run.sh")
    with artifact.new_file("notes.txt") as f:
        f.write("é")
    with artifact.new_file("big.bin", mode="wb") as f:
        f.write(b"x" * (3 << 20))
    with pytest.raises(RuntimeError):
        with artifact.new_file("broken.txt") as f:
            raise RuntimeError
    version = artifact.save(store)
    assert [e.path for e in version.files()] == ["big.bin", "code/sub/run.sh", "notes.txt", "run.sh"]
    assert version.entry("run.sh").executable and version.read_bytes("notes.txt") == "é".encode()
    assert version.entry("big.bin").size == 3 << 20
    # The bytes at the time of adding, or nothing.
    later = cairn.Artifact("later")
    later.add_file("in/skip.tmp")
    copied = cairn.Artifact("copied")
    copied.add_copy("in/skip.tmp", "kept", store)
    (tmp_path / "in/skip.tmp").write_text("changed meanwhile")
    with pytest.raises(cairn.StoreIOError, match="changed"):
        later.save(store)
    assert copied.save(store).read_bytes("kept") == b"no"


def test_a_draft_changes_a_version_and_a_diff_shows_it(store):
    v0 = save(store, {"a": "1", "b": "2", "c": "3"})
    draft = v0.new_draft()
    draft.add_bytes("a", "one")
    draft.remove("b")
    draft.rename("c", "d/c")
    v1 = draft.save(store)
    assert v1.qualified_name == "images:v1"
    assert [(c.path, c.status) for c in v0.diff(v1)] == [
        ("a", "changed"),
        ("b", "removed"),
        ("c", "removed"),
        ("d", "added"),
        ("d/c", "added"),
    ]
    assert [(c.old.size, c.new.size) for c in v0.diff(v1) if c.status == "changed"] == [(1, 3)]
    assert v1.read_many(["a", "d/c"]) == [b"one", b"3"]
    # Two drafts that change the same path conflict.
    first, second = v1.new_draft(), v1.new_draft()
    first.add_bytes("a", "first")
    second.add_bytes("a", "second")
    first.save(store)
    with pytest.raises(cairn.ConflictError) as e:
        second.save(store)
    assert e.value.conflicts == ["a"] and e.value.exit_status == 3 and isinstance(e.value, cairn.RefusedError)


def test_a_version_is_downloaded(store, tmp_path):
    version = save(store, {"a/1": "one", "b": "two"})
    assert version.download() == (root := tmp_path.__class__("artifacts/images:v0"))
    assert (root / "a/1").read_text() == "one"
    assert version.download(tmp_path / "part", path="a") == tmp_path / "part"
    assert sorted(os.listdir(tmp_path / "part")) == ["a"]
    (root / "b").write_text("mine")
    with pytest.raises(cairn.RefusedError):
        version.download()
    version.download(force=True)
    assert (root / "b").read_text() == "two"


def test_typed_objects_come_back_equal(store):
    np = pytest.importorskip("numpy")

    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    picture = cairn.Image(
        np.zeros((4, 6, 3), dtype=np.uint8), caption="black", classes=cairn.Classes([{"id": 0, "name": "cat"}])
    )
    table = cairn.Table(["n", "text", "at", "picture", "score"], [[1, "a", moment, picture, 0.5]])
    table.add_data(np.int64(2), None, None, None, np.float32(1.5))
    artifact = cairn.Artifact("objects")
    assert artifact.add(table, "rows") == "rows.table.json"
    assert artifact.add(cairn.Html("<p>"), "page") == "page.html-file.json"
    assert artifact.add(cairn.Classes([(0, "cat"), (1, "dog")]), "names") == "names.classes.json"
    artifact.add(picture, "black")
    version = artifact.save(store)
    back = version.get("rows")
    assert back.columns == ["n", "text", "at", "picture", "score"] and len(back) == 2
    (n, text, at, image, score), second = back.data
    assert (n, text, at, score) == (1, "a", moment, 0.5) and second == [2, None, None, None, 1.5]
    assert (image.width, image.height, image.format, image.bytes()) == (6, 4, "png", picture.bytes())
    assert version.get("black").caption == "black"
    assert version.get("page").text == "<p>" and version.get("names.classes.json").names == {0: "cat", 1: "dog"}
    with pytest.raises(TypeError):
        artifact.add(object(), "x")
    with pytest.raises(TypeError, match="a table holds no"):
        table.add_data(object(), "b", None, None, 1)


def test_an_image_of_pixels_has_boxes_and_masks(store):
    np = pytest.importorskip("numpy")
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    place = {"middle": [1, 1], "width": 2, "height": 1}
    box = {"position": place, "domain": "pixel", "class_id": 1, "scores": {"p": 0.5}}
    image = cairn.Image(
        pixels,
        boxes={"found": {"box_data": [box], "class_labels": {1: "cat"}}},
        masks={"truth": {"mask_data": np.array([[0, 1, 1], [0, 0, 1]]), "class_labels": {0: "sky", 1: "cat"}}},
        grouping=3,
    )
    artifact = cairn.Artifact("pictures")
    artifact.add(image, "one")
    version = artifact.save(store)
    names = sorted(entry.path for entry in version.entries() if entry.kind == "file")
    assert [name.count("/") for name in names] == [2, 2, 3, 0] and names[3] == "one.image-file.json"
    import json

    shown = json.loads(version.read_bytes("one.image-file.json"))
    assert shown["boxes"] == {"found": [box]} and list(shown["masks"]) == ["truth"] and shown["grouping"] == 3
    assert json.loads(version.read_bytes(shown["classes"]["path"]))["class_set"] == [
        {"id": 1, "name": "cat"},
        {"id": 0, "name": "sky"},
    ]
    with pytest.raises(cairn.UsageError):
        cairn.Image(pixels, boxes={"found": {"box_data": [{"class_id": 1}]}})
    with pytest.raises(TypeError):
        cairn.Image(3)


def test_runs_make_one_version_together(store):
    for rank in range(3):
        part = cairn.Artifact("scores", "dataset")
        part.add_bytes(f"{rank}.csv", "0.5")
        assert cairn.Run(store, id=f"rank-{rank}").upsert_artifact(part, "eval-7") == 1
    run = cairn.Run(store, id="last", job_type="evaluate")
    version = run.finish_artifact(cairn.Artifact("scores"), "eval-7", expect=["rank-0", "rank-1", "rank-2"])
    assert version.file_count == 3 and version.run_id == "last"
    assert run.finish_artifact(cairn.Artifact("scores"), "eval-7") == version
    late = cairn.Artifact("scores")
    late.add_bytes("late.csv", "1")
    with pytest.raises(cairn.FinishedError):
        cairn.Run(store, id="late").upsert_artifact(late, "eval-7")
    model = cairn.Artifact("model", "model")
    model.add_bytes("w", "0")
    logged = run.log_artifact(model, aliases=["best"], tags=["t"])
    assert logged.aliases == ["latest", "best"] and logged.run_id == "last"


def test_drafts_are_listed_dropped_and_discarded(store):
    for rank in range(3):
        part = cairn.Artifact("scores")
        part.add_bytes(f"{rank}.csv", "x")
        cairn.Run(store, id=f"rank-{rank}").upsert_artifact(part, "eval-7")
    (draft,) = store.drafts()
    assert (draft.name, draft.distributed_id, draft.file_count, draft.writing) == ("scores", "eval-7", 3, 0)
    assert draft.runs == ["rank-0", "rank-1", "rank-2"] and repr(draft) == 'Draft("scores", "eval-7")'
    draft.drop_run("rank-1")
    assert store.drafts("scores")[0].runs == ["rank-0", "rank-2"]
    with pytest.raises(cairn.NotFoundError):
        draft.drop_run("rank-1")
    version = cairn.Run(store, id="last").finish_artifact(cairn.Artifact("scores"), "eval-7", expect=2)
    assert [e.path for e in version.files()] == ["0.csv", "2.csv"] and store.drafts() == []
    with pytest.raises(cairn.FinishedError):
        draft.discard()
    with pytest.raises(cairn.NotFoundError):
        store.drafts("none")
    cairn.Run(store, id="a").upsert_artifact(cairn.Artifact("scores"), "eval-8")
    store.drafts()[0].discard()
    assert store.drafts() == []


def test_errors_say_what_and_why(store, tmp_path):
    save(store, {"a": "1"})
    with pytest.raises(cairn.NotFoundError) as e:
        store.version("image")
    e = e.value
    assert (e.kind, e.message, e.exit_status, e.causes) == ("not_found", "there is no artifact image", 6, [])
    assert e.hint == "did you mean images?" and e.detail["candidates"] == ["images"]
    assert str(e) == "there is no artifact image\nhint: did you mean images?"
    again = pickle.loads(pickle.dumps(e))
    assert type(again) is type(e) and again.hint == e.hint and again.detail == e.detail
    with pytest.raises(ValueError):
        cairn.Artifact("no/slash")
    with pytest.raises(cairn.NotFoundError, match="nothing"):
        cairn.Artifact("x").add_file(tmp_path / "nothing")
    with pytest.raises(OSError) as e:
        cairn.Artifact("x").add_copy(tmp_path, "a-directory", store)
    assert isinstance(e.value, cairn.StoreIOError) and e.value.errno == errno.EISDIR
    with pytest.raises(cairn.NotFoundError):
        cairn.Store.open(tmp_path / "nowhere")


def test_stores_are_found_and_pickled(store, tmp_path, monkeypatch):
    version = save(store, {"a": "1"})
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    assert cairn.Store().root == store.root
    monkeypatch.setenv("CAIRN_STORE", str(tmp_path / ".cairn"))
    monkeypatch.chdir("/")
    assert cairn.Store.locate() == tmp_path / ".cairn"
    other = pickle.loads(pickle.dumps((store, version)))
    assert other[0].root == store.root and other[1] == version and other[1].read_bytes("a") == b"1"
    with pytest.raises(cairn.RefusedError):
        cairn.Store.init(tmp_path / ".cairn")
    assert cairn.Store.init(tmp_path / ".cairn", exist_ok=True).root == store.root


def test_a_store_is_made_with_or_without_compression(tmp_path):
    def made(name, **options):
        store = cairn.Store.init(tmp_path / name, **options)
        save(store, {"a": "one line of text\n" * 1000})
        configuration = (tmp_path / name / "cairn.json").read_text()
        packed = sum(path.stat().st_size for path in (tmp_path / name / "packs").rglob("*") if path.is_file())
        return "compressed-content" in configuration, packed < 17_000

    def has_objects_of_large_text(name):
        save(cairn.Store(tmp_path / name), {"large": "one line of text\n" * 20_000})
        return any(path.is_file() for path in (tmp_path / name / "objects").rglob("*"))

    assert made("default") == made("auto", compression="auto") == (True, True)
    assert made("all", compression="all") == (True, True)
    assert made("none", compression="none") == (False, False)
    assert has_objects_of_large_text("auto") and not has_objects_of_large_text("all")
    with pytest.raises(ValueError, match="compression.*expected auto, all or none"):
        cairn.Store.init(tmp_path / "other", compression="zstd")
    assert not (tmp_path / "other").exists()


def test_threads_read_at_once_and_the_interpreter_is_not_held(store):
    version = save(store, {f"{n}": f"{n}" * 1000 for n in range(200)})
    wrong = []

    def read():
        for n in range(200):
            if version.read_bytes(f"{n}") != (f"{n}" * 1000).encode():
                wrong.append(n)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_ctrl_c_ends_a_long_call(store):
    """A finish waits for runs; a signal ends it."""
    script = """
import cairn, sys
run = cairn.Run(cairn.Store(), id="a")
part = cairn.Artifact("scores"); part.add_bytes("x", "1")
run.upsert_artifact(part, "d")
print("waiting", flush=True)
try:
    run.finish_artifact(cairn.Artifact("scores"), "d", expect=9, wait=600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "waiting\n"
    time.sleep(0.3)
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert out == "interrupted\n" and child.returncode == 0 and time.monotonic() - begun < 5


@pytest.mark.skipif(not find_command() or not os.path.exists("/dev/fuse"), reason="needs the command and FUSE")
def test_a_mount_lasts_as_long_as_its_block(store):
    version = save(store, {"a/1": "one"})
    with version.mount() as point:
        assert (point / "a/1").read_text() == "one"
    assert not point.exists()


def test_the_import_loads_no_other_package():
    code = "import sys, cairn; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "cairn._cairn" in loaded and not loaded & {"numpy", "PIL", "tempfile", "subprocess", "asyncio", "wandb"}


def test_a_local_path_is_the_file_itself_or_a_copy(store, tmp_path, monkeypatch):
    np = pytest.importorskip("numpy")
    monkeypatch.setenv("CAIRN_CACHE_DIR", str(tmp_path / "cache"))
    numbers = np.arange(100_000)
    numbers.tofile("numbers.bin")
    artifact = cairn.Artifact("data")
    artifact.add_file("numbers.bin", "a/numbers.bin")
    artifact.add_bytes("small.txt", "small")
    version = artifact.save(store)
    large, small = version.local_path("a/numbers.bin"), version.local_path("small.txt")
    assert large.name == "numbers.bin" and large.resolve().is_relative_to(store.root)
    assert (np.memmap(large, dtype=numbers.dtype, mode="r") == numbers).all()
    assert small.read_text() == "small" and not small.is_symlink()
    assert large.stat().st_mode & 0o777 == small.stat().st_mode & 0o777 == 0o444
    with pytest.raises(cairn.NotFoundError):
        version.local_path("b")
    # It is pinned until the process ends, once for each process, and not by processes that have ended.
    pins = len(os.listdir(store.root / "pins"))
    assert pins == 1
    other = multiprocessing.get_context("fork").Process(target=version.local_path, args=("small.txt",))
    other.start()
    other.join()
    assert other.exitcode == 0 and len(os.listdir(store.root / "pins")) == pins
    code = "import cairn; print(cairn.Store().version('data').local_path('small.txt').read_text())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "small\n"
    assert len(os.listdir(store.root / "pins")) == pins


def test_attributes_are_set(store):
    version = save(store, {"a": "1"}, tags=["old", "kept"], aliases=["prod", "old"])
    version.tags = ["kept", "new"]
    version.aliases = ["latest", "best", "prod"]
    version.description = "text"
    version.metadata = {"lr": 0.2}
    assert (version.tags, version.aliases) == (["kept", "new"], ["latest", "best", "prod"])
    assert (version.description, version.metadata) == ("text", {"lr": 0.2})
    version.aliases, version.tags, version.description, version.metadata = [], [], None, {}
    assert (version.aliases, version.tags, version.description, version.metadata) == (["latest"], [], "", {})
    with pytest.raises(cairn.UsageError):
        version.tags = ["not a\ntag"]


def test_directories_are_listed(store):
    version = save(store, {"a/1": "1", "a/b/2": "2", "c": "3"})
    assert [e.path for e in version.ls()] == ["a", "c"] and [e.path for e in version.ls("a")] == ["a/1", "a/b"]
    assert [e.kind for e in version.ls("a/b/2")] == ["file"]
    assert [e.path for e in version.files(below="a")] == ["a/1", "a/b/2"]
    assert [e.path for e in version.entries(below="a")] == ["a/1", "a/b", "a/b/2"]
    with pytest.raises(cairn.NotFoundError):
        version.ls("x")
    with pytest.raises(cairn.UsageError):
        version.files("a", below="a")


def test_what_an_interpreter_shows(store):
    version = save(store, {"a": "1"})
    assert str(version) == f"{version}" == "images:v0" and repr(version) == 'Version("images:v0")'
    assert repr(cairn.Table(["n"], [[1], [2]])) == '<Table of 2 rows, columns ["n"]>'
    assert repr(cairn.Classes([(0, "cat")])) == '<Classes {0: "cat"}>' and repr(cairn.Html("é")) == "<Html of 1 characters>"
    gif = b"GIF89a\x02\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x02\0\x01\0\0\x02\x02D\x01\0;"
    assert repr(cairn.Image(gif, name="a.gif")) == "<Image gif, 2 x 1>"


def test_wrong_values_are_refused_by_type(store):
    version = save(store, {"a": "1"})
    artifact = cairn.Artifact("x")
    for wrong in (5, [1, 2], None, 1.5):
        with pytest.raises(TypeError):
            artifact.add_bytes("a", wrong)
    artifact.add_bytes("array", __import__("array").array("B", [1, 2]))
    artifact.add_bytes("view", memoryview(b"abcd")[::2])
    saved = artifact.save(store)
    assert saved.read_many(["array", "view"]) == [b"\x01\x02", b"ac"]
    for call in (version.file_at, version.read_bytes, version.open, lambda n: version.read_many([n])):
        with pytest.raises(IndexError, match="-1 is not the number of a file"):
            call(-1)
        with pytest.raises(TypeError):
            call(1.5)


def test_one_text_is_not_a_list(store):
    version, artifact = save(store, {"a": "1"}), cairn.Artifact("x")
    calls = [
        lambda: cairn.Artifact("x", tags="raw"),
        lambda: cairn.Artifact("x", aliases=b"prod"),
        lambda: artifact.add_dir(".", exclude="*.tmp"),
        lambda: version.read_many("a"),
        lambda: version.annotate(add_tags="raw"),
        lambda: setattr(version, "tags", "raw"),
        lambda: setattr(version, "aliases", "prod"),
        lambda: version.copy("y", aliases="prod"),
        lambda: cairn.Run(store).finish_artifact(artifact, "id", expect="run-1"),
        lambda: cairn.Run(store).log_artifact(artifact, tags="raw"),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"expected a list, found the single value .*: write \["):
            call()
    with pytest.raises(TypeError, match="expected a Table"):
        artifact.add(3, "x")
    for progress in (3, "yes"):
        with pytest.raises(TypeError, match="progress is a function, True, False or None"):
            artifact.save(store, progress=progress)
    assert store.artifacts() == ["images"] and version.tags == []


def test_values_are_equal_by_what_they_name(store):
    version = save(store, {"a": "1", "b": "2"})
    assert version.entry("a") == version.file_at(0) != version.entry("b") and len({*version.files()} | {*version.ls()}) == 2
    assert store == cairn.Store(store.root) and store != version and len({store, version.store}) == 1
    empty = cairn.Artifact("empty").save(store)
    assert empty and len(empty) == 0


def test_errors_of_a_mount_are_those_of_the_library(store, tmp_path):
    if not find_command():
        pytest.skip("needs the command cairn")
    version = save(store, {"a": "1"})
    with pytest.raises(cairn.NotFoundError) as raised:
        version.mount(tmp_path / "none").__enter__()
    assert raised.value.hint.startswith("mkdir") and raised.value.causes
    (tmp_path / "file").touch()
    with pytest.raises(cairn.CairnError, match="is not a directory"):
        version.mount(tmp_path / "file").__enter__()


def test_a_store_that_is_gone_is_an_error_everywhere(store):
    version = save(store, {"a": "1"})
    shutil.rmtree(store.root)
    for call in (
        store.artifacts,
        store.verify,
        lambda: store.version("images"),
    ):
        with pytest.raises(cairn.NotFoundError, match="is not a cairn store"):
            call()
    for call in (lambda: version.read_bytes("a"), lambda: save(store, {"a": "2"}), lambda: pickle.loads(pickle.dumps(store))):
        with pytest.raises(cairn.CairnError):
            call()


def test_an_alias_that_is_not_there_has_a_hint_that_fits(store):
    version = save(store, {"a": "1"})
    with pytest.raises(cairn.RefusedError) as raised:
        version.remove_alias("prod")
    assert "Version.aliases" in raised.value.hint
    with pytest.raises(cairn.UsageError, match="is not a regular file") as raised:
        cairn.Artifact("x").add_file(".")
    assert raised.value.hint == "a directory is added by add_dir"


def test_files_have_numbers(store):
    version = save(store, {"a/1": "1", "a/b/2": "2", "a-": "x", "c": "3"})
    assert version.file_numbers() == range(4) == version.file_numbers("")
    paths = [version.file_at(n).path for n in range(4)]
    for below in ("a", "a/b", "c"):
        inside = [n for n, path in enumerate(paths) if path == below or path.startswith(below + "/")]
        assert list(version.file_numbers(below)) == inside
    assert version.read_files([3, 0]) == [(paths[3], version.read_bytes(3)), (paths[0], version.read_bytes(0))]
    assert version.read_files([]) == []
    with pytest.raises(cairn.NotFoundError):
        version.file_numbers("b")
    with pytest.raises(cairn.NotFoundError, match="number 4"):
        version.read_files([4])


def test_a_directory_is_compared_with_a_version(store, tmp_path):
    version = save(store, {"a/1": "1", "b": "2"})
    out = version.download("out")
    assert list(version.diff(out)) == [] == list(version.diff(str(out)))
    (out / "b").write_text("3")
    (out / "c").write_text("new")
    assert [(change.path, change.status) for change in version.diff(out)] == [("b", "changed"), ("c", "added")]
    with pytest.raises(cairn.StoreIOError) as e:
        version.diff(tmp_path / "none")
    assert e.value.errno == errno.ENOENT
    with pytest.raises(TypeError):
        version.diff(3)


def test_content_of_another_version_is_added(store, tmp_path, monkeypatch):
    save(store, {"train/1 %20.png": "one", "train/2.png": "two", "b": "3"})
    mixed = cairn.Artifact("mixed")
    mixed.add_reference("cairn://images:v0/train", "images", store=store)
    mixed.add_reference("cairn://images:latest/b")  # of the nearest .cairn
    mixed.add_reference("cairn://images/train/1 %20.png", "first")
    version = mixed.save(store)
    assert {e.path: (e.kind, version.read_bytes(e.path)) for e in version.files()} == {
        "b": ("file", b"3"),
        "first": ("file", b"one"),
        "images/1 %20.png": ("file", b"one"),
        "images/2.png": ("file", b"two"),
    }
    with pytest.raises(cairn.NotFoundError):
        mixed.add_reference("cairn://images:v0/none", store=store)
    monkeypatch.chdir("/")
    with pytest.raises(cairn.NotFoundError):
        mixed.add_reference("cairn://images:v0/b")


def test_damage_is_found(store):
    version = save(store, {"large": os.urandom(1 << 20), "small": "1"})
    assert version.verify() == [] and store.verify(quick=True) == []
    damaged = version.local_path("large").resolve()
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(1 << 20))
    (finding,) = version.verify()
    assert finding.affects == ["images:v0 large"] or "images:v0" in finding.affects[0]
    assert finding.code.startswith("F") and finding.why and finding.hint
    assert [f.code for f in store.verify()] == [finding.code] or store.verify()
    with pytest.raises(cairn.DamagedError):
        version.read_bytes("large")


def test_progress_is_reported_to_a_function(store, tmp_path):
    seen = []
    (tmp_path / "in").mkdir()
    for n in range(20):
        (tmp_path / f"in/{n}").write_bytes(bytes(1000))
    artifact = cairn.Artifact("images")
    artifact.add_dir("in")
    version = artifact.save(store, progress=seen.append)
    assert (seen[-1].files_done, seen[-1].files_total, seen[-1].bytes_done) == (20, 20, 20_000)
    seen.clear()
    version.download("out", progress=seen.append)
    assert seen[-1].files_done == 20
    seen.clear()
    version.verify(progress=seen.append)
    assert seen

    def stop(_):
        raise RuntimeError("enough")

    run = cairn.Run(store, id="a")
    run.upsert_artifact(artifact, "d", progress=False)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="enough"):
        run.finish_artifact(cairn.Artifact("images"), "d", expect=9, wait=60, progress=stop)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("installed", [True, False])
def test_a_terminal_shows_a_bar_if_tqdm_is_installed(store, installed):
    pytest.importorskip("tqdm")
    code = """
import sys
if sys.argv[1] == "False":
    sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
import cairn
run = cairn.Run(cairn.Store(), id="a")
part = cairn.Artifact("scores"); part.add_bytes("x", "1")
run.upsert_artifact(part, "d")
try:
    run.finish_artifact(cairn.Artifact("scores"), "d", expect=2, wait=1)
except cairn.RefusedError:
    pass
"""
    terminal, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    done = subprocess.run([sys.executable, "-c", code, str(installed)], stderr=other)
    os.set_blocking(terminal, False)
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except BlockingIOError:
        pass
    os.close(terminal)
    os.close(other)
    assert done.returncode == 0 and (b"scores" in shown) == installed, shown


def test_versions_are_copied_deleted_and_expire(store, tmp_path):
    artifact = cairn.Artifact("images", "dataset", "two", {"n": 2}, tags=["raw"])
    artifact.add_bytes("a", "1")
    version = cairn.Run(store, "maker").log_artifact(artifact)
    cairn.Run(store, "reader").use_artifact(version)
    assert (version.made_by(), version.used_by(), version.source) == (["maker"], ["reader"], None)
    copy = version.copy("golden", aliases=["prod"])
    assert (copy.source, copy.digest, copy.type) == ("images:v0", version.digest, "dataset")
    assert (copy.description, copy.metadata, copy.tags, copy.aliases) == ("two", {"n": 2}, ["raw"], ["latest", "prod"])
    assert copy.made_by() == [] and version.copy("golden") == copy
    elsewhere = version.copy("images", cairn.Store.init(tmp_path / "other"))
    assert elsewhere.store.root != store.root and elsewhere.read_bytes("a") == b"1" and elsewhere.source is None
    with pytest.raises(cairn.RefusedError, match="prod"):
        copy.delete()
    copy.delete(force=True)
    assert not store.exists("golden") and store.exists("images")
    with pytest.raises(cairn.CairnError):
        copy.delete()
    version.ttl = datetime.timedelta(hours=1)
    assert version.ttl == datetime.timedelta(hours=1)
    with pytest.raises(cairn.UsageError):
        version.ttl = datetime.timedelta(0)
    version.ttl = None
    assert version.ttl is None


def test_a_preview_stores_nothing(store, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("one")
    artifact = cairn.Artifact("images")
    artifact.add_dir("d")
    artifact.add_bytes("b", "b")
    preview = artifact.preview(store)
    assert (preview.file_count, preview.size, [e.path for e in preview.files()]) == (2, 4, ["a", "b"])
    assert store.artifacts() == [] and artifact.save(store).digest == preview.digest


def test_references_are_skipped_or_linked(store, tmp_path):
    (tmp_path / "far").write_text("far")
    artifact = cairn.Artifact("images")
    artifact.add_bytes("near", "near")
    artifact.add_reference(f"file://{tmp_path}/far")
    version = artifact.save(store)
    assert sorted(os.listdir(version.download("all"))) == ["far", "near"]
    assert os.listdir(version.download("some", references="skip")) == ["near"]
    assert version.download("links", references="link").joinpath("far").readlink() == tmp_path / "far"
    with pytest.raises(cairn.UsageError, match="expected fetch, skip or link"):
        version.download("no", references="none")


def test_special_files_and_the_store_itself_are_not_content(store, tmp_path, monkeypatch):
    monkeypatch.setenv("CAIRN_CACHE_DIR", str(tmp_path / "cache"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").write_text("a")
    artifact = cairn.Artifact("all")
    artifact.add_dir(tmp_path, skip_special=True)
    assert [e.path for e in artifact.save(store).files()] == ["a"], "the store in it is left out"
    for own in (store.root, store.root / "packs"):
        artifact = cairn.Artifact("own")
        artifact.add_dir(own)
        with pytest.raises(cairn.UsageError, match="belongs to the store itself"):
            artifact.save(store)
    artifact = cairn.Artifact("large")
    artifact.add_bytes("large", b"x" * (1 << 20))
    again = cairn.Artifact("again")
    again.add_file(artifact.save(store).local_path("large"))
    assert again.save(store).size == 1 << 20
