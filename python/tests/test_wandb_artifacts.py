"""What W&B's guides and classes do with artifacts, with W&B's own errors."""

import datetime
import hashlib
import json
import os
import subprocess
import sys

import cairn
import cairn.wandb as wandb
import pytest


@pytest.fixture(autouse=True)
def no_run_before_and_after(store):
    assert wandb.run is None
    yield
    wandb.finish()


def log(files, name="data", type="dataset", run=None, **more):
    """A logged artifact with these files."""
    artifact = wandb.Artifact(name, type, **more.pop("given", {}))
    for path, text in files.items():
        with artifact.new_file(path) as f:
            f.write(text)
    if run is not None:
        return run.log_artifact(artifact, **more)
    with wandb.init() as run:
        return run.log_artifact(artifact, **more)


def test_a_path_is_added_twice_only_with_equal_content_or_overwrite(store, tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    artifact = wandb.Artifact("data", "dataset")
    first = artifact.add_file("a")
    assert (first.path, first.size, first.local_path) == ("a", 3, "a")
    assert artifact.add_file("a") is first
    assert artifact.get_added_local_path_name("a") == "a" and artifact.get_added_local_path_name("b") is None
    (tmp_path / "a").write_text("one, later")
    for again in (lambda: artifact.add_file("a"), lambda: artifact.add_file("b", "./a")):
        with pytest.raises(ValueError, match="Cannot add the same path twice: 'a'"):
            again()
    artifact.add_file("b", "a", overwrite=True)
    artifact.add_reference("s3://bucket/far", checksum=False)
    with pytest.raises(ValueError, match="same path twice"):
        artifact.add_reference("s3://other/far", "far", checksum=False)
    with artifact.new_file("notes.txt", "w") as f:
        f.write("first")
    with pytest.raises(ValueError, match="already exists"):
        with artifact.new_file("notes.txt"):
            pass
    with artifact.new_file("notes.txt", "w") as f:
        f.write("second")
    table = wandb.Table(columns=["a"], data=[[1]])
    assert artifact.add(table, "rows").path == "rows.table.json"
    artifact.add(wandb.Table(columns=["a"], data=[[2]]), "rows")  # as in W&B: what is there stays
    with pytest.raises(ValueError, match="policy"):
        artifact.add_file("b", policy="never")
    with pytest.raises(ValueError, match="not a file"):
        artifact.add_file("none")
    with pytest.raises(ValueError):
        artifact.add_reference("no/scheme")
    logged = artifact
    with wandb.init() as run:
        run.log_artifact(artifact)
    assert open(logged.get_entry("a").download()).read() == "two"
    assert open(logged.get_entry("notes.txt").download()).read() == "second"
    assert logged.get("rows").data == [[1]] and logged["rows"].data == [[1]] and logged.get("none") is None


def test_files_can_be_executed_afterwards_as_before(store, tmp_path):
    (tmp_path / "run.sh").write_text("#!/bin/sh")
    (tmp_path / "run.sh").chmod(0o755)
    artifact = wandb.Artifact("tools", "code")
    artifact.add_file("run.sh")
    artifact.save()
    assert store.version("tools").entry("run.sh").executable


def test_what_is_removed_must_be_there(store, tmp_path):
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/sub/x").write_text("x")
    (tmp_path / "d/y").write_text("y")
    artifact = wandb.Artifact("data", "dataset")
    artifact.add_dir("d", "in")
    entry = artifact.add_file("d/y", "file")
    artifact.remove("in/sub")
    artifact.remove(entry)
    for path in ("none", "in/sub/x", "file", "i"):
        with pytest.raises(FileNotFoundError, match="No such file or directory"):
            artifact.remove(path)
    artifact.save()
    assert [e.path for e in store.version("data").files()] == ["in/y"]
    draft = artifact.new_draft()
    draft.remove("in/")
    with pytest.raises(FileNotFoundError):
        draft.remove("in/y")
    draft.add_file("d/y", "in/y")
    draft.remove("in/y")


def test_before_it_is_logged_an_artifact_has_digest_size_and_manifest(store):
    with wandb.init() as run:
        first = log({"a/1.txt": "one", "a/2.txt": "two"}, run=run)
        artifact = wandb.Artifact("data", "dataset")
        for path, text in {"a/1.txt": "one", "a/2.txt": "two"}.items():
            with artifact.new_file(path) as f:
                f.write(text)
        assert artifact.digest == first.digest and artifact.size == first.size == 6
        manifest = artifact.manifest
        assert list(manifest.entries) == ["a/1.txt", "a/2.txt"] and len(manifest) == 2
        sha = hashlib.sha256(b"one").hexdigest()
        assert manifest.entries["a/1.txt"].digest == sha == first.get_entry("a/1.txt").digest
        assert manifest.digest() == first.manifest.digest() == first.digest and manifest.size() == 6
        assert [e.path for e in manifest.get_entries_in_directory("a")] == ["a/1.txt", "a/2.txt"]
        assert manifest.get_entry_by_path("b") is None and not list((store.root / "artifacts").glob("*/versions/v1"))
        draft = first.new_draft()
        draft.remove("a/1.txt")
        with draft.new_file("b") as f:
            f.write("b")
        before = draft.digest
        assert list(draft.manifest.entries) == ["a/2.txt", "b"]
        assert run.log_artifact(draft).digest == before != first.digest


def test_the_manifest_is_the_one_that_wandb_makes(store, tmp_path):
    logged = log({"file1.txt": "hello"})
    made = logged.manifest.to_manifest_json()
    assert made["version"] == 1 and list(made["contents"]) == ["file1.txt"]
    real = pytest.importorskip("wandb")
    theirs = real.Artifact("data", "dataset")
    (tmp_path / "file1.txt").write_text("hello")
    theirs.add_file("file1.txt")
    assert made["contents"] == json.loads(json.dumps(theirs.manifest.to_manifest_json()))["contents"]
    with pytest.raises(wandb.errors.ArtifactNotLoggedError):
        wandb.Artifact("x", "dataset").manifest.to_manifest_json()


def test_what_only_a_logged_artifact_has_is_an_error_before(store, tmp_path):
    artifact = wandb.Artifact("data", "dataset")
    assert artifact.is_draft() and artifact.state == "PENDING" and artifact.id is None and artifact.name == "data"
    calls = [artifact.wait, artifact.download, artifact.verify, artifact.files, artifact.new_draft, artifact.delete]
    calls += [artifact.used_by, artifact.logged_by, artifact.json_encode, artifact.file, artifact.checkout]
    calls += [lambda: artifact.get("x"), lambda: artifact.get_entry("x"), lambda: artifact["x"]]
    attributes = ["version", "entity", "project", "qualified_name", "collection", "created_at", "file_count", "ttl"]
    calls += [lambda a=a: getattr(artifact, a) for a in (*attributes, "source_version", "source_artifact")]
    for call in calls:
        with pytest.raises(wandb.errors.ArtifactNotLoggedError) as raised:
            call()
        assert isinstance(raised.value, AttributeError) and isinstance(raised.value, wandb.UsageError)
        assert isinstance(raised.value, wandb.CommError) and "log_artifact" in raised.value.hint
    assert not hasattr(artifact, "version")
    (tmp_path / "x").write_text("x")
    artifact.add_file("x")
    artifact.save()
    assert not artifact.is_draft() and artifact.state == "COMMITTED" and artifact.wait(timeout=1) is artifact
    table = wandb.Table(columns=["a"], data=[])
    changes = [lambda: artifact.add_file("x"), lambda: artifact.add_dir("."), lambda: artifact.add(table, "t")]
    changes += [lambda: artifact.add_reference("s3://b/x"), lambda: artifact.remove("x")]
    changes += [lambda: artifact.new_file("y").__enter__(), lambda: artifact.__setitem__("t", table)]
    for change in changes:
        with pytest.raises(wandb.errors.ArtifactFinalizedError) as raised:
            change()
        assert "new_draft" in raised.value.hint
    for absent in ("updated_at", "commit_hash", "history_step"):
        with pytest.raises(wandb.errors.UnsupportedError) as raised:
            getattr(artifact, absent)
        assert raised.value.hint
    assert artifact.url == "" and artifact.json_encode()["sequenceName"] == "data"


def test_entries_and_files_of_a_logged_artifact(store):
    logged = log({"a/1.txt": "one", "b.txt": "two"})
    files = logged.files()
    assert len(files) == 2 and [f.name for f in files] == ["a/1.txt", "b.txt"] and files[-1].name == "b.txt"
    assert next(files).size == 3 and [f.path for f in logged.files(names=["b.txt"])] == ["b.txt"]
    with pytest.raises(IndexError):
        files[2]
    with files[0].download("out") as f:
        assert f.read() == "one" and f.name == os.path.join("out", "a/1.txt")
    with pytest.raises(ValueError, match="exist_ok"):
        files[0].download("out")
    assert files[0].download("out", exist_ok=True).read() == files[0].download("out", replace=True).read() == "one"
    entry = logged.get_entry("a/1.txt")
    assert entry == logged.get_path("./a/1.txt") and entry.parent_artifact() is logged
    assert entry.ref_url() == "cairn://data:v0/a/1.txt"
    with pytest.raises(ValueError, match="Only reference entries"):
        entry.ref_target()
    for missing in ("none", "a"):
        with pytest.raises(KeyError, match="Path not contained in artifact"):
            logged.get_entry(missing)
    other = wandb.Artifact("other", "dataset")
    assert [e.path for e in other.add_reference(entry, "shared.txt")] == ["shared.txt"]
    other.save()
    assert open(other.file()).read() == "one" and store.version("other").entry("shared.txt").kind == "file"
    with pytest.raises(ValueError, match="2 files"):
        logged.file()


def test_a_download_replaces_what_differs_and_takes_the_beginning_of_paths(store, monkeypatch, tmp_path):
    logged = log({"data/a": "1", "data2/b": "2", "data.txt": "3", "other": "4"})
    os.makedirs("out/data")
    for path in ("out/data/a", "out/more"):
        with open(path, "w") as f:
            f.write("old")
    got = logged.download("out", path_prefix="data", skip_cache=True, multipart=False)
    assert got == os.path.abspath("out") and sorted(os.listdir("out")) == ["data", "data.txt", "data2", "more"]
    assert open("out/data/a").read() == "1"
    assert os.listdir(logged.download("one", path_prefix="data/")) == ["data"]
    assert os.listdir(logged.download("two", path_prefix="oth")) == ["other"]
    assert os.listdir(logged.download("none", path_prefix="no/such")) == []
    assert sorted(os.listdir(logged.checkout("out"))) == ["data", "data.txt", "data2", "other"]
    monkeypatch.setenv("WANDB_ARTIFACT_DIR", str(tmp_path / "elsewhere"))
    assert logged.download() == str(tmp_path / "elsewhere/data:v0") and logged.verify() is None
    assert logged.checkout() == str(tmp_path / "elsewhere/data")


def test_missing_references_are_omitted_on_request(store, tmp_path, capsys):
    (tmp_path / "here").write_text("here")
    artifact = wandb.Artifact("data", "dataset")
    artifact.add_reference(f"file://{tmp_path}/here")
    (tmp_path / "gone").write_text("gone")
    artifact.add_reference(f"file://{tmp_path}/gone", "in/gone")
    artifact.save()
    os.remove(tmp_path / "gone")
    with pytest.raises(wandb.CommError):
        artifact.download("all")
    got = artifact.download("some", allow_missing_references=True)
    assert open(os.path.join(got, "here")).read() == "here" and not os.path.exists(os.path.join(got, "in/gone"))
    assert "in/gone of data:v0 is omitted" in capsys.readouterr().err
    assert artifact.download("none", allow_missing_references=True, path_prefix="in/gone") == os.path.abspath("none")


def test_a_time_to_live(store):
    artifact = wandb.Artifact("data", "dataset")
    artifact.ttl = datetime.timedelta(days=3)
    assert artifact.ttl == datetime.timedelta(days=3)
    for wrong, error in ((datetime.timedelta(0), ValueError), (3, TypeError), (wandb.ArtifactTTL.INHERIT, ValueError)):
        with pytest.raises(error):
            artifact.ttl = wrong
    artifact.save()
    assert wandb.run is None, "the run that save made is finished"
    assert store.version("data").ttl == datetime.timedelta(days=3) == wandb.Api().artifact("data").ttl
    again = wandb.Api().artifact("data:latest")
    again.ttl = None
    again.save()
    assert store.version("data").ttl is None is wandb.Api().artifact("data").ttl


def test_a_version_is_deleted_with_its_aliases_only_on_request(store):
    logged = log({"a": "1"}, aliases=["prod"])
    with pytest.raises(wandb.CommError, match="prod"):
        logged.delete()
    logged.delete(delete_aliases=True)
    assert logged.state == "DELETED" and not wandb.Api().artifact_exists("data:v0")
    unnamed = log({"a": "2"})
    assert unnamed.version == "v1"
    unnamed.delete()
    assert store.versions("data") == []


def test_lineage_is_walked_as_in_the_guide(store):
    with wandb.init(project="vision", name="prepare", id="run-1", config={"n": 3}) as run:
        data = log({"a": "1"}, run=run)
    with wandb.init(project="vision", id="run-2", job_type="train") as run:
        used = run.use_artifact("data:latest")
        model = log({"w": "0.5"}, "model", "model", run=run)
    assert [r.id for r in used.used_by()] == ["run-2"] and model.used_by() == []
    producer = wandb.Api().artifact("vision/model:latest").logged_by()
    assert producer.id == "run-2" == producer.name
    assert [a.name for a in producer.used_artifacts()] == ["data:v0"]
    assert [a.name for a in producer.logged_artifacts()] == ["model:v0"]
    first = wandb.Api().artifact("data:v0").logged_by()
    assert (first.id, first.name, first.project, first.config) == ("run-1", "prepare", "vision", {"n": 3})
    assert wandb.Api().run("us/vision/run-1") == first
    with pytest.raises(wandb.CommError, match="Could not find run"):
        wandb.Api().run("run-9")
    assert data.qualified_name == "vision/data:v0" and wandb.Api().artifact(data.qualified_name).digest == data.digest
    artifact = cairn.Artifact("bare")
    artifact.save(store)
    assert wandb.Api().artifact("bare").logged_by() is None


def test_a_link_is_a_version_that_knows_its_source(store, tmp_path):
    with wandb.init(project="vision") as run:
        model = log({"w": "0.5"}, "model", "model", run=run)
        linked = run.link_artifact(model, "wandb-registry-model/Golden", aliases=["production"])
    assert linked.name == "Golden:v0" and linked.type == "model" and linked.digest == model.digest
    assert linked.is_link and not model.is_link and sorted(linked.aliases) == ["latest", "production"]
    assert (linked.source_name, linked.source_version, model.source_name) == ("model:v0", "v0", "model:v0")
    assert linked.source_artifact.name == "model:v0" and model.source_artifact is model
    assert linked.source_qualified_name == "vision/model:v0" and linked.source_collection.name == "model"
    assert [a.name for a in model.linked_artifacts] == ["Golden:v0"] and linked.linked_artifacts == []
    assert linked.link("Second").source_name == "model:v0", "a link to a link is one to its source"
    assert open(linked.file()).read() == "0.5"
    with pytest.raises(ValueError, match="cannot be unlinked"):
        model.unlink()
    linked.unlink()
    assert not wandb.Api().artifact_exists("Golden:v0") and wandb.Api().artifact_exists("model:v0")
    (tmp_path / "weights").write_text("w")
    with wandb.init() as run:
        draft = wandb.Artifact("fresh", "model")
        draft.add_file("weights")
        assert run.link_artifact(draft, "Third").source_name == "fresh:v0"
        assert run.link_model("weights", "Fourth", name="plain").source_name == "plain:v0"


def test_collections_and_types(store):
    log({"a": "1"}, tags=["raw"])
    log({"a": "2"}, aliases=["prod"])
    log({"w": "1"}, "model", "model")
    api = wandb.Api()
    assert [t.name for t in api.artifact_types()] == ["dataset", "model"]
    assert api.artifact_type("model").name == "model"
    collection = api.artifact_collection("dataset", "us/vision/data")
    assert collection.name == "data" and collection.is_sequence() and collection.aliases == ["latest", "prod"]
    assert collection.created_at == api.artifact("data:v0").created_at
    assert api.artifact_type("dataset").collection("data").name == api.artifact("data").collection.name == "data"
    assert [a.version for a in api.artifacts("dataset", "data")] == ["v1", "v0"]
    assert [a.version for a in api.artifacts("dataset", "data", order="+createdAt")] == ["v0", "v1"]
    assert [a.version for a in api.artifacts("dataset", "data", tags="raw")] == ["v0"]
    for wrong in (lambda: api.artifact_type("none"), lambda: api.artifact_collection("model", "data")):
        with pytest.raises(wandb.errors.CommError):
            wrong()
    with pytest.raises(wandb.errors.UnsupportedError):
        collection.change_type("model")
    with pytest.raises(ValueError, match="is of type dataset"):
        api.artifact("data", type="model")
    for missing in (lambda: api.sweeps, lambda: wandb.init().alert):
        with pytest.raises(AttributeError, match="what concerns artifacts"):
            missing()
    collection.delete()
    assert store.versions("data") == [] and not api.artifact_collection_exists("data", "dataset")


def test_what_is_logged_by_path(store, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_text("x")
    with wandb.init(id="r") as run:
        assert run.log_artifact("d", type="dataset").name == "run-r-d:v0"
        assert run.log_artifact(f"file://{tmp_path}/d/x", name="far", type="dataset", aliases="best").file_count == 1
        with pytest.raises(ValueError, match="must be a file, directory"):
            run.log_artifact("none", name="x", type="dataset")
        with pytest.raises(TypeError):
            run.log_artifact(3)
        with pytest.raises(ValueError, match="already exists with type 'dataset'"):
            run.log_artifact("d", name="far", type="model")
    assert store.version("far:best").type == "dataset"


def test_code_is_logged(store, tmp_path):
    for path in ("train.py", "lib/util.py", "requirements.txt", "notes.md", "wandb/run.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(path)
    with wandb.init(project="vision") as run:
        code = run.log_code(name="code")
        assert code.type == "code" and list(code.manifest.entries) == ["lib/util.py", "requirements.txt", "train.py"]
        notes = run.log_code(".", "notes", lambda path: path.endswith(".md"))
        assert list(notes.manifest.entries) == ["notes.md"]
        some = run.log_code(".", "some", exclude_fn=lambda path, root: os.path.relpath(path, root).startswith("lib"))
        assert "lib/util.py" not in some.manifest.entries
        assert run.log_code("lib", "none", lambda path: False) is None
        assert run.log_code().name.startswith("source-vision-")


def test_the_exceptions_have_wandbs_names(store):
    script = "from cairn.wandb.errors import CommError, UsageError, Error; import cairn; assert CommError is Error"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(wandb.Error):
        wandb.use_artifact("none:latest")
    with pytest.raises(ValueError):
        wandb.Artifact("a/b", "dataset")


def test_what_init_is_given_is_kept_or_ignored_with_one_warning(store, monkeypatch, capsys):
    for name, value in {"WANDB_RUN_ID": "r-1", "WANDB_RUN_GROUP": "g", "WANDB_JOB_TYPE": "train"}.items():
        monkeypatch.setenv(name, value)
    about = {"entity": "us", "project": "vision", "name": "first", "notes": "n", "tags": ["t"], "config": {"lr": 1}}
    for _ in range(2):
        with wandb.init(**about, dir="x", resume="allow", reinit=True, save_code=None) as run:
            assert (run.id, run.group, run.job_type) == ("r-1", "g", "train")
            logged = log({"a": "1"}, run=run)
    assert store.version("data").metadata["wandb"] == about and logged.entity == "us"
    assert capsys.readouterr().err.count("init ignores what only W&B's server has: reinit, resume\n") == 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'projekt'"):
        wandb.init(projekt="vision")
