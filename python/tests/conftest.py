import cairn
import pytest


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store, in a working directory of its own."""
    for name in ("CAIRN_STORE", "CAIRN_RUN", "CAIRN_RUN_GROUP", "CAIRN_JOB_TYPE", "WANDB_RUN_ID", "WANDB_RUN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return cairn.Store.init(tmp_path / ".cairn")
