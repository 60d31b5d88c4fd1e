"""MLflow's file-based tracking with its artifacts in a store."""

import os
import subprocess
import sys

import cairn
import pytest

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def experiment(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    return mlflow.create_experiment("vision", artifact_location=f"cairn://{store.root}/vision")


def paths(version):
    return [entry.path for entry in version.files()]


def test_a_run_logs_lists_downloads_and_deletes(store, experiment, tmp_path):
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/a.txt").write_text("a")
    (tmp_path / "data/sub/b b%20.txt").write_text("b")
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("loss", 0.5)
        mlflow.log_text("notes", "notes/one.txt")
        mlflow.log_artifacts(str(tmp_path / "data"), "data")
        mlflow.log_artifact(str(tmp_path / "data/a.txt"))
        mlflow.log_dict({"lr": 0.1}, "config.json")
    name = f"vision.{run.info.run_id}"
    version = store.version(name)
    assert paths(version) == ["a.txt", "config.json", "data/a.txt", "data/sub/b b%20.txt", "notes/one.txt"]
    assert (version.type, version.run_id, version.number) == ("mlflow", run.info.run_id, 3)
    client = mlflow.MlflowClient()
    listed = [(f.path, f.is_dir, f.file_size) for f in client.list_artifacts(run.info.run_id)]
    assert listed == [("a.txt", False, 1), ("config.json", False, 15), ("data", True, None), ("notes", True, None)] or (
        [path for path, _, _ in listed] == ["a.txt", "config.json", "data", "notes"]
    )
    assert [f.path for f in client.list_artifacts(run.info.run_id, "data")] == ["data/a.txt", "data/sub"]
    assert client.list_artifacts(run.info.run_id, "a.txt") == [] == client.list_artifacts(run.info.run_id, "none")
    out = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(tmp_path))
    assert open(os.path.join(out, "data/sub/b b%20.txt")).read() == "b"
    assert mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/config.json") == {"lr": 0.1}
    mlflow.log_text("newer", "notes/one.txt", run_id=run.info.run_id)
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/one.txt") == "newer"
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(run.info.artifact_uri)
    repository.delete_artifacts("data")
    repository.delete_artifacts("none")
    assert paths(store.version(name)) == ["a.txt", "config.json", "notes/one.txt"]
    assert paths(store.version(f"{name}:v3")) == paths(version), "old versions stay"
    repository.delete_artifacts()
    assert paths(store.version(name)) == []


LOG = """
import sys, mlflow
run, rank = sys.argv[1:]
for n in range(5):
    mlflow.log_text(f"{rank} {n}", f"{rank}/{n}.txt", run_id=run)
    mlflow.log_text(f"{rank} {n}", "same.txt", run_id=run)
"""


def test_processes_log_to_one_run_at_once(store, experiment):
    run = mlflow.MlflowClient().create_run(experiment).info.run_id
    children = [subprocess.Popen([sys.executable, "-c", LOG, run, str(rank)]) for rank in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    version = store.version(f"vision.{run}")
    assert paths(version) == sorted(f"{rank}/{n}.txt" for rank in range(3) for n in range(5)) + ["same.txt"]
    assert version.read_bytes("same.txt").endswith(b" 4")


def test_the_second_of_two_first_versions_has_both_contents(store, experiment, monkeypatch):
    from cairn.mlflow import CairnArtifactRepository

    uri = f"cairn://{store.root}/vision/r1/artifacts"
    other = cairn.Artifact("vision.r1", "mlflow")
    other.add_bytes("theirs.txt", "theirs")
    other.add_bytes("both.txt", "theirs")
    repository = CairnArtifactRepository(uri)
    (store.root.parent / "both.txt").write_text("mine")

    def nothing_yet():
        other.save(store)

    monkeypatch.setattr(repository, "_newest", nothing_yet)
    repository.log_artifact(str(store.root.parent / "both.txt"))
    version = store.version("vision.r1")
    assert {p: version.read_bytes(p) for p in paths(version)} == {"both.txt": b"mine", "theirs.txt": b"theirs"}


def test_a_uri_names_a_store_and_an_artifact(store):
    from cairn.mlflow import CairnArtifactRepository

    def parsed(uri):
        repository = CairnArtifactRepository(uri)
        return repository.name, repository.run, repository.below

    root = f"cairn://{store.root}"
    assert parsed(f"{root}/ml/3/abc/artifacts") == ("ml.3.abc", "abc", "")
    assert parsed(f"{root}/ml/abc/artifacts/model/data") == ("ml.abc", "abc", "model/data")
    assert parsed(f"{root}/ml/models/m-1/artifacts") == ("ml.models.m-1", None, "")
    assert parsed(f"{root}/plain") == ("plain", None, "")
    for wrong in (root, "cairn:///nowhere/ml", "cairn://images:v0/x"):
        with pytest.raises(cairn.UsageError, match="names no artifact"):
            CairnArtifactRepository(wrong)
