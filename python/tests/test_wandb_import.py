"""Artifacts of W&B are imported: from an Api object, here a fake that speaks its methods, and from a directory."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import cairn
import cairn._import as importing
import cairn.wandb as wandb
import pytest


def md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


class Entry:
    def __init__(self, path, data=None, ref=None):
        self.path, self.data, self.ref = path, data, ref
        self.size = None if data is None else len(data)
        self.digest = ref if data is None else md5(data)
        self.extra = {}

    def download(self, root=None, skip_cache=None):
        Api.downloads.append(self.path)
        target = Path(root) / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.data)
        return str(target)


class Manifest:
    def __init__(self, entries):
        self.entries = {entry.path: entry for entry in entries}


class Run:
    def __init__(self, id, group=None, job_type=None):
        self.id, self.group, self.job_type = id, group, job_type


class Artifact:
    entity, project = "us", "vision"

    def __init__(self, name, number, entries, **more):
        self.name, self.version, self.manifest = f"{name}:v{number}", f"v{number}", Manifest(entries)
        self.type = more.get("type", "dataset")
        self.description, self.metadata = more.get("description"), more.get("metadata", {})
        self.aliases, self.tags = more.get("aliases", []), more.get("tags", [])
        self.digest, self.created_at = hashlib.md5(self.name.encode()).hexdigest(), f"2025-01-0{number + 1}T00:00:00Z"
        self.run, self.users = more.get("run"), more.get("users", [])

    def logged_by(self):
        return self.run

    def used_by(self):
        return self.users


class Collection:
    def __init__(self, name, artifacts, sequence=True):
        self.name, self.all, self.sequence = name, artifacts, sequence

    def artifacts(self, per_page=50):
        return iter(self.all)

    def is_sequence(self):
        return self.sequence


class Type:
    def __init__(self, name, collections):
        self.name, self.all = name, collections

    def collections(self):
        return iter(self.all)


class Api:
    downloads = []

    def __init__(self, *types):
        self.types = types

    def artifact_types(self, project=None):
        assert project == "us/vision"
        return iter(self.types)


LARGE = os.urandom(300_000)


@pytest.fixture
def api():
    Api.downloads = []
    first = [Entry("a/1.txt", b"one"), Entry("large.bin", LARGE), Entry("far.zip", ref="s3://bucket/far.zip")]
    second = [Entry("a/1.txt", b"changed"), Entry("large.bin", LARGE), Entry("b", b"new")]
    versions = [
        Artifact("images", 4, second, aliases=["latest", "best", "not:allowed"], users=[Run("eval-1"), Run("eval-2")]),
        Artifact(
            "images",
            1,
            first,
            description="first",
            metadata={"camera": "x100", "wandb": {"kept": 1}},
            tags=["clean"],
            aliases=["old"],
            run=Run("prepare-1", "prepare", "ingest"),
        ),
    ]
    model = Artifact("model", 0, [Entry("w", b"0.5")], type="model")
    elsewhere = Artifact("model", 1, [Entry("model", ref="cairn:///data/store/model:v1@00")], type="model")
    linked = Collection("portfolio", versions, sequence=False)
    return Api(Type("dataset", [Collection("images", versions), linked]), Type("model", [Collection("model", [model, elsewhere])]))


def test_everything_of_a_project_is_imported(store, api, capfd):
    seen = []
    done = wandb.import_artifacts(api, store, project="us/vision", report=seen.append)
    assert {origin: v.qualified_name for origin, v in done.items()} == {
        "us/vision/images:v1": "images:v0",
        "us/vision/images:v4": "images:v1",
        "us/vision/model:v0": "model:v0",
    }
    assert seen[0] == "us/vision/images:v1 is images:v0" and store.artifacts() == ["images", "model"]
    v0, v1 = store.versions("images")
    assert [(e.path, e.kind) for e in v0.files()] == [
        ("a/1.txt", "file"),
        ("far.zip", "reference"),
        ("large.bin", "file"),
    ]
    assert v0.entry("far.zip").uri == "s3://bucket/far.zip" and v0.read_bytes("large.bin") == LARGE
    assert (v0.description, v0.tags, v0.aliases, v0.type, v0.run_id) == ("first", ["clean"], ["old"], "dataset", "prepare-1")
    assert v0.metadata["camera"] == "x100" and v0.metadata["wandb"] == {
        "kept": 1,
        "source": "us/vision/images:v1",
        "digest": hashlib.md5(b"images:v1").hexdigest(),
        "created_at": "2025-01-02T00:00:00Z",
    }
    assert {e.path: v1.read_bytes(e.path) for e in v1.files()} == {"a/1.txt": b"changed", "b": b"new", "large.bin": LARGE}
    assert v1.aliases == ["latest", "best"] and "'not:allowed' is omitted" in capfd.readouterr().err
    assert sorted(os.listdir(store.root / "artifacts/images/uses/v1")) != []
    assert sorted(Api.downloads) == ["a/1.txt", "a/1.txt", "b", "large.bin", "w"], "only what changed"
    # Again: nothing is downloaded or made.
    Api.downloads.clear()
    again = wandb.import_artifacts(api, store, project="us/vision")
    assert again == done and not Api.downloads and len(store.versions("images")) == 2


def test_an_import_that_failed_continues(store, api):
    broken = api.types[0].all[0].all[0].manifest.entries["b"]
    broken.digest = md5(b"something else")
    with pytest.raises(cairn.DamagedError, match="b was downloaded with MD5"):
        wandb.import_artifacts(api, store, project="us/vision", types=["dataset"])
    assert [v.qualified_name for v in store.versions("images")] == ["images:v0"]
    Api.downloads.clear()
    broken.digest = md5(b"new")
    wandb.import_artifacts(api, store, project="us/vision", names=["images"], lineage=False)
    assert sorted(Api.downloads) == ["a/1.txt", "b"] and store.artifacts() == ["images"]
    assert store.version("images:v1").read_bytes("large.bin") == LARGE


def test_directories_that_wandb_downloaded_are_imported(store, tmp_path):
    root = tmp_path / "artifacts"
    for number, text in ((2, "two"), (10, "ten")):
        (root / f"images:v{number}/sub").mkdir(parents=True)
        (root / f"images:v{number}/sub/a.txt").write_text(text)
    (root / "images:v2/gone.txt").write_text("gone")
    (root / "other-v0").mkdir()
    about = {
        "type": "dataset",
        "metadata": {"n": 1},
        "aliases": ["best"],
        "run": "train-1",
        "used_by": ["eval-1"],
        "references": {"far": "s3://bucket/far"},
        "created_at": "2025-01-01T00:00:00Z",
    }
    for number in (2, 10):
        (root / f"images:v{number}.json").write_text(json.dumps(about))
    command = [sys.executable, "-m", "cairn._import", str(root), "--store", str(store.root), "--name", "images"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "artifacts/images:v2 is images:v0\nartifacts/images:v10 is images:v1\n"
    v0, v1 = store.versions("images")
    assert [e.path for e in v0.files()] == ["far", "gone.txt", "sub/a.txt"] and v0.run_id == "train-1"
    assert [e.path for e in v1.files()] == ["far", "sub/a.txt"] and v1.read_bytes("sub/a.txt") == b"ten"
    assert v1.aliases == ["latest", "best"] and v1.metadata["n"] == 1
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
    for wrong, message in ((str(tmp_path), "no directory NAME:vN"), ("no-slash", "neither a directory")):
        done = subprocess.run([*command[:3], wrong], capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr


# A run of W&B itself, without its server.


def wandb_run(tmp_path, monkeypatch, **named):
    real = pytest.importorskip("wandb")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-files"))
    (tmp_path / "wandb-files").mkdir(exist_ok=True)
    monkeypatch.setenv("WANDB_SILENT", "true")
    return real, real.init(project="vision", mode="offline", **named)


def test_a_run_of_wandb_is_attached(store, tmp_path, monkeypatch):
    real, run = wandb_run(tmp_path, monkeypatch, id="abc123", group="g", job_type="train")
    log, logged_there = run.log_artifact, []
    monkeypatch.setattr(run, "log_artifact", lambda a, **more: (logged_there.append((a, more)), log(a, **more)))
    with wandb.attach(run, store) as attached:
        attached.log({"loss": 0.5})
        assert attached.name == run.name and attached.config is run.config
        artifact = real.Artifact("model", "model", description="small", metadata={"lr": 0.1})
        (tmp_path / "weights.pt").write_bytes(b"weights")
        artifact.add_file(str(tmp_path / "weights.pt"))
        artifact.add_reference("hdfs://host/far", name="far", checksum=False)
        artifact.add(real.Table(columns=["a"], data=[[1]]), "rows")
        logged = attached.log_artifact(artifact, aliases=["best", "latest"], tags=["t"])
        own = wandb.Artifact("own", "dataset", metadata={"n": 1})
        with own.new_file("x") as f:
            f.write("x")
        assert attached.log_artifact(own) is own and own.version == "v0"
        assert attached.log_artifact(str(tmp_path / "weights.pt"), name="plain", type="model").file_count == 1
        used = attached.use_artifact("us/vision/model:best", type="model")
        assert used.name == "model:v0" and used.get_entry("weights.pt").size == 7
        with pytest.raises(ValueError, match="does not match"):
            attached.use_artifact("model:best", type="dataset")
        with pytest.raises(wandb.errors.ArtifactFinalizedError):
            attached.upsert_artifact(own)
    version = store.version("model:best")
    assert logged.name == version.qualified_name == "model:v0" and version.run_id == "abc123"
    assert [e.path for e in version.files()] == ["far", "rows.table.json", "weights.pt"]
    assert (version.description, version.metadata, version.tags) == ("small", {"lr": 0.1}, ["t"])
    assert version.get("rows").data == [[1]]
    # W&B has references and no bytes.
    assert [artifact.name.split(":")[0] for artifact, _ in logged_there] == ["model", "own", "plain"]
    theirs, more = logged_there[0]
    assert {path: (entry.ref, entry.local_path) for path, entry in theirs.manifest.entries.items()} == {
        "model": (f"cairn://{store.root}/model:v0@{version.digest}", None)
    }
    assert more == {"aliases": ["best", "latest"], "tags": ["t"]} and theirs.type == "model"
    assert theirs.metadata["cairn"]["version"] == "model:v0" and theirs.metadata["lr"] == 0.1


def test_attached_runs_make_a_version_together_and_link_it(store, tmp_path, monkeypatch):
    real, run = wandb_run(tmp_path, monkeypatch, id="abc123", group="g")
    there = []
    monkeypatch.setattr(run, "log_artifact", lambda a, **more: there.append(("log", a, more)))
    monkeypatch.setattr(run, "link_artifact", lambda a, path, aliases: there.append(("link", a, path, aliases)))
    (tmp_path / "a").write_text("a")
    with wandb.attach(run, store) as attached:
        theirs = real.Artifact("together", "dataset")
        theirs.add_file(str(tmp_path / "a"))
        assert attached.upsert_artifact(theirs) is theirs
        own = wandb.Artifact("together", "dataset")
        with own.new_file("b") as f:
            f.write("b")
        attached.upsert_artifact(own, aliases=["best"], distributed_id="g")
        assert there == [] and not store.exists("together")
        last = wandb.Artifact("together", "dataset")
        assert attached.finish_artifact(last, distributed_id="g") is last and last.name == "together:v0"
        version = store.version("together:best")
        assert [e.path for e in version.files()] == ["a", "b"]
        (done, reference, more), *_ = there
        assert done == "log" and more == {"aliases": None}
        assert [e.ref for e in reference.manifest.entries.values()] == [
            f"cairn://{store.root}/together:v0@{version.digest}"
        ]
        attached.link_artifact(last, "wandb-registry-data/Golden", aliases=["production"])
        assert there[1:] == [("link", reference, "wandb-registry-data/Golden", ["production"])]
        attached.link_artifact(wandb.Artifact("new", "dataset"), "Golden")
        assert [what for what, *_ in there[2:]] == ["log", "link"] and store.exists("new:v0")
        attached.link_artifact(wandb.Api().artifact("together"), "Second")
        assert [what for what, *_ in there[4:]] == ["link"], "it was logged by this run"


class FakeRun:
    """A run of W&B that is online: its server has one artifact."""

    id, group, job_type, offline = "online-1", "", "", False

    def __init__(self, uri):
        self.used, self.entry = [], Entry("model", ref=uri)

    def use_artifact(self, name, type=None):
        self.used.append(name)
        artifact = Artifact("model", 7, [self.entry] if self.entry.ref else [])
        return artifact


def test_what_an_attached_run_uses_is_the_version_that_wandb_refers_to(store):
    for text in ("old", "new"):
        artifact = cairn.Artifact("model")
        artifact.add_bytes("w", text)
        artifact.save(store)
    old = store.version("model:v0")
    run = FakeRun(f"cairn://{store.root}/model:v0@{old.digest}")
    used = wandb.attach(run, store).use_artifact("us/vision/model:latest")
    assert used.name == "model:v0" and run.used == ["us/vision/model:latest"]
    run.entry.ref = f"cairn://{store.root}/model:v1@{old.digest}"
    with pytest.raises(cairn.NotFoundError, match="has the digest"):
        wandb.attach(run, store).use_artifact("model:latest")
    run.entry.ref = None
    with pytest.raises(cairn.NotFoundError, match="refers to no version"):
        wandb.attach(run, str(store.root)).use_artifact("model:latest")


def test_downloads_run_in_several_threads(tmp_path):
    together = threading.Barrier(3, timeout=20)

    class Slow(Entry):
        def download(self, root=None, skip_cache=None):
            together.wait()
            return super().download(root)

    entries = {f"{n}": Slow(f"{n}", b"x") for n in range(3)}
    assert importing._download(entries, list(entries), tmp_path) == tmp_path
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]
