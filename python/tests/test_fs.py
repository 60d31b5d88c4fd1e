"""`cairn.fs`, and the programs that read through it. Those that are not installed are skipped."""

import errno
import io
import os
import pickle
import subprocess
import sys

import cairn
import pytest

fsspec = pytest.importorskip("fsspec")
from cairn.fs import CairnFileSystem  # noqa: E402: it needs fsspec

LARGE = bytes(range(256)) * 2000


@pytest.fixture
def version(store):
    artifact = cairn.Artifact("images", "dataset")
    for path, data in {"a.txt": b"one", "sub/b.bin": LARGE, "sub/deep/c.txt": b"three", "z.txt": b""}.items():
        artifact.add_bytes(path, data)
    artifact.add_reference("s3://bucket/far.bin", "far.bin", checksum=False)
    return artifact.save(store)


@pytest.fixture
def fs(version):
    return fsspec.filesystem("cairn", store=version.store.root)


def test_names_are_listed_and_described(fs, version):
    assert isinstance(fs, CairnFileSystem) and fs.ls("", detail=False) == ["images"]
    assert fs.ls("images:v0", detail=False) == [
        "images:v0/a.txt",
        "images:v0/far.bin",
        "images:v0/sub",
        "images:v0/z.txt",
    ]
    assert fs.ls("cairn://images/sub/", detail=False) == ["images/sub/b.bin", "images/sub/deep"]
    info = fs.info("cairn://images:latest/sub/b.bin")
    assert (info["name"], info["size"], info["type"]) == ("images:latest/sub/b.bin", len(LARGE), "file")
    assert info["digest"] == version.entry("sub/b.bin").digest == fs.ukey("images/sub/b.bin")
    assert fs.info("images/sub")["type"] == fs.info("images")["type"] == fs.info("")["type"] == "directory"
    assert fs.info("images/far.bin")["uri"] == "s3://bucket/far.bin"
    assert fs.exists("images/a.txt") and fs.isfile("images/a.txt") and fs.isdir("images/sub")
    assert not fs.exists("images/x") and not fs.exists("other/x") and not fs.exists("images:v7/a.txt")
    assert fs.created("images/a.txt") == fs.modified("images/a.txt") and fs.created("images").year >= 2026
    everything = ["images/a.txt", "images/far.bin", "images/sub/b.bin", "images/sub/deep/c.txt", "images/z.txt"]
    assert fs.find("images") == everything and fs.find("images/a.txt") == ["images/a.txt"]
    assert fs.find("images/sub", withdirs=True) == [
        "images/sub",
        "images/sub/b.bin",
        "images/sub/deep",
        "images/sub/deep/c.txt",
    ]
    assert fs.find("images", maxdepth=1) == ["images/a.txt", "images/far.bin", "images/z.txt"]
    assert fs.find("images/nothing") == []
    assert fs.find("images/sub", detail=True)["images/sub/b.bin"]["size"] == len(LARGE)
    assert fs.glob("images/**/*.txt") == ["images/a.txt", "images/sub/deep/c.txt", "images/z.txt"]
    assert fs.glob("cairn://images:v0/*.txt") == ["images:v0/a.txt", "images:v0/z.txt"]
    assert [names for _, _, names in fs.walk("images/sub")] == [["b.bin"], ["c.txt"]]
    assert fs.du("images/sub") == len(LARGE) + 5


def test_files_are_read_whole_and_in_parts(fs, tmp_path):
    assert fs.cat("images/a.txt") == b"one" == fs.cat_file("cairn://images:v0/a.txt")
    assert fs.cat(["images/a.txt", "images/z.txt"]) == {"images/a.txt": b"one", "images/z.txt": b""}
    assert fs.cat("images/sub", recursive=True)["images/sub/deep/c.txt"] == b"three"
    assert fs.cat_file("images/sub/b.bin", 10, 20) == LARGE[10:20] and fs.cat_file("images/a.txt", -2) == b"ne"
    assert fs.cat_file("images/a.txt", 2, 100) == b"e" and fs.cat_file("images/a.txt", 7, 9) == b""
    assert fs.tail("images/sub/b.bin", 5) == LARGE[-5:] and fs.head("images/sub/b.bin", 5) == LARGE[:5]
    paths = ["images/sub/b.bin", "images/a.txt", "images/sub/b.bin", "images/x"]
    ranges = fs.cat_ranges(paths, [0, 1, 300_000, 0], [4, 3, 300_004, 1])
    assert ranges[:3] == [LARGE[:4], b"ne", LARGE[300_000:300_004]] and isinstance(ranges[3], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 1, on_error="raise")
    with fs.open("images/sub/b.bin") as f:
        assert f.size == len(LARGE) and f.seek(1000) == 1000 and f.read(3) == LARGE[1000:1003]
    with fsspec.open("cairn://images/a.txt", "rt", store=fs.store.root) as f:
        assert f.read() == "one"
    with fs.open("images/sub/b.bin", cache_type="readahead", block_size=1000) as f:
        assert f.seek(5000) == 5000 and f.read(3000) == LARGE[5000:8000]
    fs.get("images/sub", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out/b.bin").read_bytes() == LARGE and (tmp_path / "out/deep/c.txt").read_bytes() == b"three"
    buffer = io.BytesIO()
    fs.get_file("images/a.txt", buffer)
    assert buffer.getvalue() == b"one"


def test_what_is_not_there_and_what_would_write_fails(fs):
    for call in (fs.info, fs.ls, fs.cat, fs.ukey, fs.open, fs.created):
        with pytest.raises(FileNotFoundError) as e:
            call("imagse:v0/a.txt")
        assert "there is no artifact imagse" in str(e.value) and isinstance(e.value, cairn.NotFoundError)
        assert e.value.errno == errno.ENOENT
    for call in (fs.mkdir, fs.rm, fs.touch, fs.rmdir, lambda p: fs.pipe(p, b"x"), lambda p: fs.mv(p, p + "2")):
        with pytest.raises(OSError) as e:
            call("images/a.txt")
        assert e.value.errno == errno.EROFS
    with pytest.raises(OSError) as e:
        fs.open("images/new.txt", "wb")
    assert e.value.errno == errno.EROFS
    with pytest.raises(IsADirectoryError):
        fs.open("")


def test_an_instance_and_its_pickles_keep_to_one_version(fs, version):
    assert fs.cat("images/a.txt") == b"one"
    draft = version.new_draft()
    draft.add_bytes("a.txt", "uno")
    draft.save(version.store)
    assert fs.cat("images/a.txt") == b"one" == pickle.loads(pickle.dumps(fs)).cat("images/a.txt")
    assert fsspec.filesystem("cairn", store=version.store.root).cat("images/a.txt") == b"uno"
    fs.invalidate_cache()
    assert fs.cat("images/a.txt") == b"uno" and fs.cat("images:v0/a.txt") == b"one"


def test_the_store_comes_from_the_environment_or_the_directory(fs, tmp_path, monkeypatch):
    with fsspec.open("cairn://images/a.txt") as f:
        assert f.read() == b"one"
    monkeypatch.chdir("/")
    with pytest.raises(cairn.NotFoundError):
        fsspec.open("cairn://images/a.txt").open()
    monkeypatch.setenv("CAIRN_STORE", str(fs.store.root))
    assert fsspec.open("cairn://images/a.txt").open().read() == b"one"


@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_caches_of_fsspec_are_exact(fs, version, tmp_path, cache):
    options = {"cairn": {"store": version.store.root}, cache: {"cache_storage": str(tmp_path / "cache")}}
    for path, data in (("a.txt", b"one"), ("sub/b.bin", LARGE)):
        with fsspec.open(f"{cache}::cairn://images:v0/{path}", **options) as f:
            assert f.read() == data
    assert any(names for _, _, names in os.walk(tmp_path / "cache"))


@pytest.fixture
def table(store):
    """Three parquet files of ten rows, and a CSV."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    artifact = cairn.Artifact("table", "dataset")
    for part in range(3):
        out = io.BytesIO()
        pq.write_table(pa.table({"n": range(part * 10, part * 10 + 10), "part": [str(part)] * 10}), out)
        artifact.add_bytes(f"data/part-{part}.parquet", out.getvalue())
    artifact.add_bytes("rows.csv", "n,name\n1,a\n2,b\n")
    return artifact.save(store)


def test_pandas_reads_parquet_and_csv(table):
    pd = pytest.importorskip("pandas")
    options = {"store": str(table.store.root)}
    assert pd.read_csv("cairn://table/rows.csv", storage_options=options)["name"].tolist() == ["a", "b"]
    frame = pd.read_parquet("cairn://table:v0/data/part-1.parquet", storage_options=options)
    assert frame["n"].tolist() == list(range(10, 20))
    assert pd.read_parquet("cairn://table:v0/data", storage_options=options)["n"].sum() == sum(range(30))


def test_pyarrow_reads_a_dataset_and_a_table(table):
    pytest.importorskip("pyarrow")
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    fs = CairnFileSystem(store=table.store.root)
    dataset = ds.dataset("table:v0/data", filesystem=fs, format="parquet")
    assert dataset.count_rows() == 30
    assert dataset.to_table(filter=ds.field("part") == "2")["n"].to_pylist() == list(range(20, 30))
    assert pq.read_table("table:v0/data/part-0.parquet", filesystem=fs, columns=["n"]).num_rows == 10
    # Without a copy, through a map of the store's own file.
    path = table.local_path("data/part-0.parquet")
    assert pq.read_table(path, memory_map=True).num_rows == 10


def test_polars_reads_through_pyarrow_an_open_file_or_a_local_path(table):
    pl = pytest.importorskip("polars")
    import pyarrow.dataset as ds

    fs = CairnFileSystem(store=table.store.root)
    lazy = pl.scan_pyarrow_dataset(ds.dataset("table:v0/data", filesystem=fs, format="parquet"))
    assert lazy.filter(pl.col("n") > 27).collect()["n"].to_list() == [28, 29]
    with fs.open("table/data/part-0.parquet") as f:
        assert pl.read_parquet(f).height == 10
    assert pl.scan_parquet(table.local_path("data/part-1.parquet")).collect().height == 10


def test_hugging_face_datasets_load_and_stream(table, tmp_path):
    datasets = pytest.importorskip("datasets")
    options = {"store": str(table.store.root)}
    kwargs = {"storage_options": options, "cache_dir": str(tmp_path / "hf"), "split": "train"}
    files = "cairn://table:v0/data/*.parquet"
    loaded = datasets.load_dataset("parquet", data_files=files, **kwargs)
    assert sorted(loaded["n"]) == list(range(30))
    streamed = datasets.load_dataset("parquet", data_files=files, streaming=True, **kwargs)
    assert sorted(row["n"] for row in streamed) == list(range(30))
    loaded.save_to_disk(str(tmp_path / "saved"))
    artifact = cairn.Artifact("saved", "dataset")
    artifact.add_dir(tmp_path / "saved")
    artifact.save(table.store)
    back = datasets.load_from_disk("cairn://saved", storage_options=options)
    assert sorted(back["n"]) == list(range(30))


def test_zarr_reads_an_array(store):
    zarr = pytest.importorskip("zarr")
    if int(zarr.__version__.split(".")[0]) < 3:
        pytest.skip("zarr 3 is needed")
    import numpy as np

    made = zarr.create_array("local.zarr", shape=(100, 100), chunks=(30, 30), dtype="int64")
    made[:] = np.arange(10_000).reshape(100, 100)
    artifact = cairn.Artifact("array", "dataset")
    artifact.add_dir("local.zarr")
    artifact.save(store)
    array = zarr.open_array("cairn://array:v0", mode="r", storage_options={"store": str(store.root)})
    assert (array[:] == np.arange(10_000).reshape(100, 100)).all() and array[99, 99] == 9999


def test_the_package_does_not_import_fsspec_by_itself():
    code = "import sys, cairn; print('fsspec' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
