"""Scripts for W&B with only the import changed."""

import os
import subprocess
import sys
import tempfile
import textwrap

import cairn
import cairn.wandb as wandb
import pytest


def test_one_run_logs_files_directories_and_references(store, tmp_path):
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/images/1.png").write_text("1")
    (tmp_path / "file.txt").write_text("text")
    with wandb.init(entity="us", project="vision", job_type="add-dataset", config={"lr": 0.1}) as run:
        artifact = wandb.Artifact(name="artifact_name", type="dataset", metadata={"seed": 1})
        artifact.add_file(local_path="file.txt", name="path/file.txt")
        artifact.add_dir(local_path="data/images", name="images")
        artifact.add_reference(uri="s3://bucket/archive.zip", checksum=False)
        with artifact.new_file("notes.md") as f:
            f.write("# notes")
        artifact.add(wandb.Table(columns=["a", "b"], data=[[1, "x"]]), "rows")
        run.log({"loss": 0.5})
        logged = run.log_artifact(artifact, aliases=["best"])
    assert logged.wait().name == "artifact_name:v0" and logged.version == "v0"
    version = store.version("us/vision/artifact_name:best".split("/")[-1])
    assert [e.path for e in version.files()] == [
        "archive.zip",
        "images/1.png",
        "notes.md",
        "path/file.txt",
        "rows.table.json",
    ]
    assert version.metadata == {
        "seed": 1,
        "wandb": {"entity": "us", "project": "vision", "config": {"lr": 0.1}, "summary": {"loss": 0.5}},
    }
    assert logged.get("rows").data == [[1, "x"]]
    assert logged.get_entry("archive.zip").ref_target() == "s3://bucket/archive.zip"


def test_a_logged_artifact_is_used_and_downloaded(store):
    with wandb.init() as run:
        artifact = wandb.Artifact("model", "model")
        with artifact.new_file("weights.txt") as f:
            f.write("0.5")
        run.log_artifact(artifact)
    with wandb.init(entity="us", project="vision") as run:
        used = run.use_artifact("us/vision/model:latest", type="model")
        datadir = used.download()
        assert datadir == os.path.abspath("artifacts/model:v0")
        assert open(os.path.join(datadir, "weights.txt")).read() == "0.5"
        assert open(used.file()).read() == "0.5" and used.file_count == 1
        assert open(used.get_entry("weights.txt").download("elsewhere")).read() == "0.5"
        assert run.used_artifacts() == [used]
        with pytest.raises(cairn.UsageError, match="one name space"):
            run.use_artifact("them/vision/model:latest")
        with pytest.raises(ValueError, match="does not match"):
            run.use_artifact("model:latest", type="dataset")
    with pytest.raises(wandb.CommError):
        wandb.use_artifact("nothing:latest")
    wandb.finish()


def save(store, files, name="model"):
    artifact = cairn.Artifact(name, "model")
    for path, data in files.items():
        artifact.add_bytes(path, data)
    return artifact.save(store)


def test_a_directory_is_verified_against_an_artifact(store, tmp_path):
    with wandb.init() as run:
        artifact = wandb.Artifact("images", "dataset")
        with artifact.new_file("a/1.txt") as f:
            f.write("one")
        artifact.add_reference("s3://bucket/far", checksum=False)
        logged = run.log_artifact(artifact)
        mixed = wandb.Artifact("mixed", "dataset")
        mixed.add_reference("cairn://images:v0/a", "same")
        assert run.log_artifact(mixed).get_entry("same/1.txt").size == 3
    out = tmp_path / "artifacts/images:v0"
    (out / "a").mkdir(parents=True)
    (out / "a/1.txt").write_text("one")
    assert logged.verify() is None is logged.verify(out)
    (out / "more.txt").write_text("more")
    with pytest.raises(ValueError, match="more.txt .* is added"):
        logged.verify()
    os.remove(out / "more.txt")
    (out / "a/1.txt").write_text("two")
    with pytest.raises(ValueError, match="a/1.txt .* is changed"):
        logged.verify(str(out))


def recorded_uses(version):
    """The runs in the records of a version's uses."""
    uses = version.store.root / "artifacts" / version.name / "uses" / version.version
    return sorted(os.fsdecode(use.name) for use in uses.iterdir() if use.is_symlink()) if uses.exists() else []


def test_what_a_run_uses_is_recorded_once(store):
    version = save(store, {"weights.txt": "0.5"})
    for _ in range(2):
        with wandb.init(id="eval-1") as run:
            used = run.use_artifact("model:latest")
            assert run.use_artifact(used) is used
    assert recorded_uses(version) == ["eval-1"]
    assert cairn.Run(store, "eval-2").use_artifact("model").qualified_name == "model:v0"
    with wandb.init(id="eval-3") as run, pytest.raises(ValueError, match="does not match"):
        run.use_artifact("model:latest", type="dataset")
    assert recorded_uses(version) == ["eval-1", "eval-2"]
    with pytest.raises(cairn.NotFoundError):
        cairn.Run(store, "eval-2").use_artifact("none")


def test_a_store_that_this_user_cannot_write_is_used_with_one_warning(monkeypatch, capfd):
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        monkeypatch.setenv("CAIRN_STORE", os.path.join(directory, "store"))
        version = save(cairn.Store.init(os.environ["CAIRN_STORE"]), {"weights.txt": "0.5"})
        child = os.fork()
        if child == 0:
            status = 1
            try:
                use_without_write_permission(directory)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, capfd.readouterr().err
        assert capfd.readouterr().err.count("what runs use is not recorded") == 1
        for above, _, _ in os.walk(directory):
            os.chmod(above, 0o755)
        assert recorded_uses(version) == []


def use_without_write_permission(directory):
    for above, _, _ in os.walk(directory):
        os.chmod(above, 0o555)
    if os.geteuid() == 0:
        os.setuid(65534)
    for _ in range(2):
        with wandb.init(id="eval-1") as run:
            assert run.use_artifact("model:latest").get_entry("weights.txt").size == 3


# Three programs. Run 1 and 2 contribute, in any order; run 3 contributes and finishes.
RUN = """
import os, sys
import cairn.wandb as wandb

with wandb.init(group="dist-1") as run:
    artifact = wandb.Artifact(name="distributed_artifact", type="dataset")
    with artifact.new_file(sys.argv[1] + ".txt") as f:
        f.write("hello " + sys.argv[1])
    run.upsert_artifact(artifact, distributed_id="my_dist_id")
    if sys.argv[1] == "3":
        print(run.finish_artifact(wandb.Artifact("distributed_artifact", "dataset"), distributed_id="my_dist_id").name)
"""


def test_three_runs_in_three_processes_make_one_version(store):
    out = [
        subprocess.run([sys.executable, "-c", RUN, n], check=True, capture_output=True, text=True).stdout for n in "123"
    ]
    assert out == ["", "", "distributed_artifact:v0\n"]
    version = store.version("distributed_artifact")
    assert [(e.path, version.read_bytes(e.path)) for e in version.files()] == [
        ("1.txt", b"hello 1"),
        ("2.txt", b"hello 2"),
        ("3.txt", b"hello 3"),
    ]


def test_the_group_is_the_default_distributed_id(store):
    for n in range(2):
        with wandb.init(group="together") as run:
            artifact = wandb.Artifact("grouped", "dataset")
            with artifact.new_file(f"{n}") as f:
                f.write("x")
            run.upsert_artifact(artifact)
    with wandb.init(group="together") as run:
        assert run.finish_artifact(wandb.Artifact("grouped", "dataset")).file_count == 2
    with wandb.init() as run:
        with pytest.raises(cairn.UsageError, match="distributed id"):
            run.upsert_artifact(wandb.Artifact("grouped", "dataset"))


def test_a_draft_of_a_used_artifact_becomes_the_next_version(store, tmp_path):
    with wandb.init() as run:
        artifact = wandb.Artifact("images", "dataset")
        for name in ("keep.txt", "change.txt", "dir_to_remove/a.txt", "remove.txt"):
            with artifact.new_file(name) as f:
                f.write("old")
        run.log_artifact(artifact)
    (tmp_path / "change.txt").write_text("new")
    (tmp_path / "added.txt").write_text("added")
    with wandb.init(job_type="modify dataset") as run:
        artifact = run.use_artifact("images:latest")
        draft = artifact.new_draft()
        draft.add_file("added.txt")
        draft.add_file("change.txt")
        draft.remove("remove.txt")
        draft.remove("dir_to_remove/")
        run.log_artifact(draft)
    version = store.version("images")
    assert version.version == "v1"
    assert {e.path: version.read_bytes(e.path) for e in version.files()} == {
        "added.txt": b"added",
        "change.txt": b"new",
        "keep.txt": b"old",
    }
    assert [c.path for c in store.version("images:v0").diff(version)] == [
        "added.txt",
        "change.txt",
        "dir_to_remove",
        "dir_to_remove/a.txt",
        "remove.txt",
    ]


def test_a_file_that_is_overwritten_in_a_loop_is_kept_as_it_was(store):
    with wandb.init() as run:
        for step in range(3):
            with open("ckpt.pt", "w") as f:
                f.write(f"step {step}")
            checkpoint = wandb.Artifact("ckpt", "model")
            checkpoint.add_file("ckpt.pt")
            with open("ckpt.pt", "w") as f:
                f.write("half written")
            run.log_artifact(checkpoint)
    read = [v.read_bytes("ckpt.pt").decode() for v in store.versions("ckpt")]
    assert read == ["step 0", "step 1", "step 2"]


def test_the_api_reads_and_changes_what_may_change(store):
    for n in range(2):
        with wandb.init() as run:
            artifact = wandb.Artifact("a", "dataset", description="first", metadata={"n": n})
            with artifact.new_file("n") as f:
                f.write(str(n))
            run.log_artifact(artifact, aliases=["old"] if n == 0 else [], tags=["t"])
    api = wandb.Api()
    assert api.artifact_exists("a:v1") and not api.artifact_exists("a:v2") and not api.artifact_exists("a:v1", "model")
    assert [a.version for a in api.artifacts("dataset", "a")] == ["v1", "v0"]
    artifact = api.artifact("us/vision/a:old")
    artifact.description = "second"
    artifact.metadata["more"] = True
    artifact.aliases.append("kept")
    artifact.aliases.remove("old")
    artifact.tags = ["u"]
    artifact.save()
    again = api.artifact("a:kept")
    assert (again.version, again.description, again.metadata, again.tags) == (
        "v0",
        "second",
        {"n": 0, "more": True},
        ["u"],
    )
    assert not api.artifact_exists("a:old")


def test_a_training_script_runs_as_it_is(store, tmp_path):
    """What has no meaning here is ignored, and what a script logs need not be JSON."""
    np = pytest.importorskip("numpy")
    import argparse
    from pathlib import Path

    assert wandb.login(key="x")
    wandb.init(project="vision", config=argparse.Namespace(lr=0.1, data=Path("in")), settings=object(), mode="online")
    wandb.config.epochs = 2
    wandb.config.update({"lr": np.float32(0.5)}, allow_val_change=True)
    assert wandb.config.lr == 0.5 and wandb.config["epochs"] == 2 and wandb.run.config is wandb.config
    with pytest.raises(AttributeError, match="no key 'momentum'"):
        wandb.config.momentum
    wandb.define_metric("loss", summary="min")
    wandb.watch(object())
    for step in range(wandb.config.epochs):
        wandb.log({"loss": np.float64(step), "picture": wandb.Html("<p>"), "per_class": np.arange(2)}, step=step)
    wandb.summary["best"] = np.int64(7)
    (tmp_path / "weights.pt").write_text("weights")
    model = wandb.log_model("weights.pt", aliases=["latest", "best"])
    assert model.name == f"run-{wandb.run.id}-weights.pt:v0" and model.type == "model"
    assert wandb.run.logged_artifacts() == [model]
    about = store.version(f"run-{wandb.run.id}-weights.pt:best").metadata["wandb"]
    assert about["config"] == {"lr": 0.5, "data": "in", "epochs": 2}
    assert about["summary"] == {"loss": 1.0, "per_class": [0, 1], "best": 7}
    assert open(wandb.use_model(model.name)).read() == "weights"
    wandb.finish()
    with pytest.raises(AttributeError, match="cairn.wandb has no sweep"):
        wandb.sweep
    api = wandb.Api()
    assert [t.name for t in api.artifact_types("us/vision")] == ["model"]
    (collection,) = api.artifact_collections("us/vision", "model")
    assert [a.name for a in collection.artifacts()] == [model.name] and collection.aliases == ["best", "latest"]


def test_objects_take_the_arguments_of_wandb(store, tmp_path):
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    pil = pytest.importorskip("PIL.Image")
    (tmp_path / "page.html").write_text("<p>file</p>")
    frame = pd.DataFrame({"n": [1, 2], "text": ["a", None], "at": pd.to_datetime(["2026-01-02", None]), 3: [0.5, 1.5]})
    picture = wandb.Image(np.zeros((2, 3, 3), dtype=np.uint8), caption="black", classes=[{"id": 0, "name": "cat"}])
    grey = wandb.Image(pil.new("RGB", (2, 2)), "L")
    assert isinstance(picture, wandb.Image) and isinstance(picture, cairn.Image) and not isinstance(3, wandb.Image)
    artifact = wandb.Artifact("objects", "dataset")
    artifact.add(wandb.Table(dataframe=frame), "frame")
    artifact.add(wandb.Table(columns=["a", "b"], data=np.arange(4).reshape(2, 2)), "array")
    artifact.add(wandb.Table(data=[["q", "r", "s"]]), "rows")
    artifact.add(wandb.Table(["m"], [[1], ["x"]], allow_mixed_types=True), "mixed")
    artifact.add(picture, "picture")
    artifact.add(wandb.Image(picture, caption="again"), "again")
    artifact.add(wandb.Html("page.html"), "file")
    artifact.add(wandb.Html("page.html", data_is_not_path=True), "text")
    artifact.add(wandb.Html(open("page.html")), "open")
    with wandb.init() as run:
        logged = run.log_artifact(artifact)
    back = logged.get("frame")
    assert back.columns == ["n", "text", "at", "3"] and isinstance(back, wandb.Table)
    assert [row[:2] + row[3:] for row in back.data] == [[1, "a", 0.5], [2, None, 1.5]]
    assert back.data[0][2].year == 2026 and back.data[1][2] is None
    assert logged.get("array").data == [[0, 1], [2, 3]] and logged.get("mixed").data == [[1], ["x"]]
    assert logged.get("rows").columns == ["Input", "Output", "Expected"]
    assert [logged.get(name).text for name in ("file", "text", "open")] == ["<p>file</p>", "page.html", "<p>file</p>"]
    assert logged.get("again").caption == "again" and logged.get("again").bytes() == picture.bytes()
    assert pil.open(__import__("io").BytesIO(grey.bytes())).mode == "L"


def test_a_store_is_made_where_there_is_none(tmp_path):
    script = textwrap.dedent("""
        import cairn.wandb as wandb
        artifact = wandb.Artifact("a", "dataset")
        with artifact.new_file("x") as f: f.write("x")
        print(wandb.log_artifact(artifact).name)
    """)
    environment = {k: v for k, v in os.environ.items() if k != "CAIRN_STORE"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "a:v0\n", done.stderr
    assert "made a store in .cairn" in done.stderr and (tmp_path / ".cairn/cairn.json").exists()
