"""Typed objects both ways with the real package wandb: it reads what we write, we read what it writes, in equal bytes."""

import datetime
import io
import json
import os

import cairn
import cairn.wandb as ours
import pytest

real = pytest.importorskip("wandb")
np = pytest.importorskip("numpy")
pytest.importorskip("PIL")

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.timezone.utc)
BOXES = {
    "found": {
        "box_data": [
            {
                "position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4},
                "class_id": 0,
                "box_caption": "x",
                "scores": {"a": 0.5},
            }
        ],
        "class_labels": {0: "cat"},
    }
}
CLASSES = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dö'g"}]


def picture(module, path, **more):
    return module.Image(str(path), **more)


OBJECTS = {
    "number": lambda m, _: m.Table(columns=["x"], data=[[1], [2.5], [None], [-0.0], [1e16]]),
    "string": lambda m, _: m.Table(columns=["s"], data=[["a"], ["é\n"], [None]]),
    "boolean": lambda m, _: m.Table(columns=["b"], data=[[True], [None], [False]]),
    "timestamp": lambda m, _: m.Table(columns=["t"], data=[[MOMENT], [None]]),
    "map": lambda m, _: m.Table(columns=["d"], data=[[{"k": 1, "l": ["a"]}], [None]]),
    "list": lambda m, _: m.Table(columns=["l"], data=[[[1, 2]], [[3, 4]]]),
    "array": lambda m, _: m.Table(columns=["l"], data=[[np.array([1, 2, 3])]]),
    "several": lambda m, _: m.Table(columns=["n", "s"], data=[[1, "a"], [None, "b"]]),
    "empty": lambda m, _: m.Table(columns=["a"], data=[]),
    "mixed": lambda m, _: m.Table(columns=["m"], data=[[1], ["a"], [True]], allow_mixed_types=True),
    "pictures": lambda m, p: m.Table(columns=["i", "n"], data=[[picture(m, p), 1], [None, 2]]),
    "image": lambda m, p: picture(m, p, caption="a cat", classes=CLASSES),
    "boxes": lambda m, p: picture(m, p, classes=CLASSES, boxes=BOXES),
    "masks": lambda m, p: picture(
        m, p, masks={"truth": {"mask_data": np.array([[0, 1, 0], [1, 0, 1]]), "class_labels": {0: "cat", 1: "dog"}}}
    ),
    "classes": lambda m, _: m.Classes(CLASSES),
    "html": lambda m, _: m.Html("<p>hi</p>", inject=False),
}


@pytest.fixture(params=OBJECTS)
def made(request, store, tmp_path):
    """An object of each package, and what each writes: {path: bytes}."""
    from PIL import Image

    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), (255, 0, 0))
    image.save(tmp_path / "a.png")
    make = OBJECTS[request.param]
    theirs = real.Artifact("x", "x")
    their_object = make(real, tmp_path / "a.png")
    theirs.add(their_object, "obj")
    written = {}
    for path, entry in theirs.manifest.entries.items():
        with open(entry.local_path, "rb") as f:
            written[path] = f.read()
    artifact = cairn.Artifact("x")
    artifact.add(make(ours, tmp_path / "a.png"), "obj")
    version = artifact.save(store)
    return theirs, their_object, written, version


def pixels(png):
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return image.mode, image.size, image.tobytes()


def test_the_bytes_are_those_that_wandb_writes(made, request):
    """But for two: our masks are compressed otherwise, and we say of a column of arrays that it may be None."""
    _, _, written, version = made
    own = {entry.path: version.read_bytes(entry.path) for entry in version.files()}
    case = request.node.callspec.params["made"]
    if case == "masks":
        (mask,) = [path for path in own if path.startswith("media/images/mask/")]
        (theirs,) = [path for path in written if path.startswith("media/images/mask/")]
        assert pixels(own.pop(mask)) == pixels(written.pop(theirs))
        for files in (own, written):
            described = json.loads(files["obj.image-file.json"])
            del described["masks"]["truth"]["path"], described["masks"]["truth"]["sha256"]
            files["obj.image-file.json"] = described
    if case == "array":
        for files in (own, written):
            files["obj.table.json"] = json.loads(files["obj.table.json"])
        columns = own["obj.table.json"]["column_types"]["params"]["type_map"]
        none, columns["l"] = columns["l"]["params"]["allowed_types"]
        assert none == {"wb_type": "none"}
    assert own == written


def shown(value):
    """An object of either package as plain values."""
    if hasattr(value, "tolist"):
        return shown(value.tolist())
    if isinstance(value, (list, tuple)):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if hasattr(value, "_width"):  # of wandb
        return ("image", value._width, value._height)
    if hasattr(value, "width"):
        return ("image", value.width, value.height)
    return value


def rows_of(table):
    return table.columns, [shown(row) for row in table.data]


def test_we_read_what_wandb_wrote(made, store):
    theirs, their_object, written, _ = made
    artifact = cairn.Artifact("theirs")
    for path, data in written.items():
        artifact.add_bytes(path, data)
    version = artifact.save(store)
    read = version.get("obj")
    if isinstance(read, cairn.Table):
        assert rows_of(read) == rows_of(their_object)
    elif isinstance(read, cairn.Classes):
        assert read.names == {each["id"]: each["name"] for each in CLASSES}
    elif isinstance(read, cairn.Html):
        assert read.text == "<p>hi</p>"
    else:
        assert (read.width, read.height, read.format) == (3, 2, "png") and read.bytes().startswith(b"\x89PNG")
    again = cairn.Artifact("again")
    again.add(read, "obj")
    assert again.save(store).digest == version.digest, "added again, it is the same"


class Source:
    """An artifact as W&B's `from_json` asks it: objects of W&B, and entries to download."""

    def __init__(self, version):
        self.artifact, self.version = ours.Artifact._of(version), version
        self.get_entry, self.get_path = self.artifact.get_entry, self.artifact.get_entry

    def get(self, path):
        return real.Classes.from_json(json.loads(self.version.read_bytes(path)), self)


def test_wandb_reads_what_we_wrote(made):
    _, their_object, written, version = made
    (path,) = [path for path in written if path.startswith("obj.")]
    back = type(their_object).from_json(json.loads(version.read_bytes(path)), Source(version))
    if isinstance(back, real.Table):
        assert rows_of(back) == rows_of(their_object)
    elif isinstance(back, real.Classes):
        assert back == their_object
    elif isinstance(back, real.Image):
        assert (back._width, back._height, back._caption) == (3, 2, their_object._caption)
        assert bool(back._boxes) == bool(their_object._boxes) and bool(back._masks) == bool(their_object._masks)
    else:
        with open(back._path) as f:
            assert f.read() == "<p>hi</p>"
    assert os.path.isdir("artifacts/x:v0") or isinstance(back, (real.Table, real.Classes))
