"""The ways in which W&B's documentation makes a version, with only the import changed.

The five snippets of docs.wandb.ai/guides/artifacts/create-a-new-artifact-version, word for word: a single run; `save`
without a run; three runs that make one version together. And, from its later edition, a draft that changes a version.
They run in one process, and each in a process of its own.
"""

import contextlib
import io
import os
import subprocess
import sys

import cairn
import pytest

SINGLE = """
with wandb.init() as run:
    artifact = wandb.Artifact("artifact_name", "artifact_type")
    # Add Files and Assets to the artifact using
    # `.add`, `.add_file`, `.add_dir`, and `.add_reference`
    artifact.add_file("image1.png")
    run.log_artifact(artifact)
"""

WITHOUT_A_RUN = """
artifact = wandb.Artifact("artifact_name", "artifact_type")
# Add Files and Assets to the artifact using
# `.add`, `.add_file`, `.add_dir`, and `.add_reference`
artifact.add_file("image1.png")
artifact.save()
"""

RUN_1 = """
with wandb.init() as run:
    artifact = wandb.Artifact("artifact_name", "artifact_type")
    # Add Files and Assets to the artifact using
    # `.add`, `.add_file`, `.add_dir`, and `.add_reference`
    artifact.add_file("image1.png")
    run.upsert_artifact(artifact, distributed_id="my_dist_artifact")
"""

RUN_2 = RUN_1.replace("image1", "image2")

RUN_3 = """
with wandb.init() as run:
    artifact = wandb.Artifact("artifact_name", "artifact_type")
    # Add Files and Assets to the artifact using
    # `.add`, `.add_file`, `.add_dir`, and `.add_reference`
    artifact.add_file("image3.png")
    run.finish_artifact(artifact, distributed_id="my_dist_artifact")
"""

DRAFT = """
with wandb.init(job_type="modify dataset") as run:
    saved_artifact = run.use_artifact("artifact_name:latest")
    draft_artifact = saved_artifact.new_draft()
    draft_artifact.add_file("file_to_add.txt")
    draft_artifact.remove("image1.png")
    run.log_artifact(draft_artifact)
"""


def in_this_process(code):
    exec(compile(code, "snippet", "exec"), {"wandb": __import__("cairn.wandb").wandb})


def in_another(code):
    subprocess.run([sys.executable, "-c", "import cairn.wandb as wandb\n" + code], check=True)


@pytest.mark.parametrize("execute", [in_this_process, in_another])
def test_the_documented_ways_make_versions(store, tmp_path, execute):
    for n in (1, 2, 3):
        (tmp_path / f"image{n}.png").write_bytes(b"\x89PNG" + bytes([n]))
    (tmp_path / "file_to_add.txt").write_text("added")

    def contents():
        return {v.version: [e.path for e in v.files()] for v in store.versions("artifact_name")}

    execute(SINGLE)
    assert contents() == {"v0": ["image1.png"]}
    execute(WITHOUT_A_RUN)
    assert contents() == {"v0": ["image1.png"]}, "the same content is the same version"
    execute(RUN_1)
    execute(RUN_2)
    assert contents() == {"v0": ["image1.png"]}, "no version before the finish"
    execute(RUN_3)
    together = ["image1.png", "image2.png", "image3.png"]
    assert contents() == {"v0": ["image1.png"], "v1": together}
    assert len({v.run_id for v in store.versions("artifact_name")}) == 2
    execute(DRAFT)
    assert contents() == {"v0": ["image1.png"], "v1": together, "v2": ["file_to_add.txt", "image2.png", "image3.png"]}
    latest = store.version("artifact_name:latest")
    assert (latest.version, latest.type) == ("v2", "artifact_type")
    assert latest.read_bytes("image3.png") == b"\x89PNG\x03"


def test_runs_at_the_same_moment_make_one_version(store, tmp_path):
    for n in (1, 2, 3):
        (tmp_path / f"image{n}.png").write_bytes(bytes([n]))
    code = "import cairn.wandb as wandb\n"
    children = [subprocess.Popen([sys.executable, "-c", code + run]) for run in (RUN_1, RUN_2)]
    assert [child.wait() for child in children] == [0, 0]
    in_another(RUN_3)
    version = store.version("artifact_name")
    assert {e.path: version.read_bytes(e.path) for e in version.files()} == {
        f"image{n}.png": bytes([n]) for n in (1, 2, 3)
    }


def test_without_a_store_the_first_snippet_makes_one(tmp_path, monkeypatch):
    monkeypatch.delenv("CAIRN_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image1.png").write_bytes(b"x")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        in_this_process(SINGLE)
    assert said.getvalue() == "cairn: made a store in .cairn\n" and os.path.exists(".cairn/cairn.json")
    assert cairn.Store().version("artifact_name").file_count == 1
