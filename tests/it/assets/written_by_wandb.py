#!/usr/bin/env python3
"""Writes `written_by_wandb.json`: the JSON files of objects that wandb 0.31 adds to an artifact, without a server.

    pip install wandb==0.31.0 numpy pillow
    ./written_by_wandb.py > written_by_wandb.json

Each item is [object, path in the artifact, text of the file]. tests/it/assets/mod.rs makes the same objects.
"""

import datetime
import json
import os
import sys
import tempfile

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=tempfile.mkdtemp())

import numpy
import PIL.Image
import wandb

os.chdir(tempfile.mkdtemp())
picture = PIL.Image.new("RGB", (3, 2))
picture.putpixel((0, 0), (255, 0, 0))
picture.save("a.png")
cat = [{"id": 0, "name": "cat"}]
box = {"position": {"minX": 0.1, "maxX": 0.2, "minY": 0.3, "maxY": 0.4}, "class_id": 0}
boxes = {"p": {"box_data": [box], "class_labels": {0: "cat"}}}
center = {"position": {"middle": [150, 20], "width": 68, "height": 12.5}, "domain": "pixel", "class_id": 3}
center.update({"box_caption": "a b", "scores": {"acc": 0.25}})
two = {"t": {"box_data": [box, center]}, "p": {"box_data": [center], "class_labels": {3: "dog", 1: "cow"}}}
pixels = numpy.arange(18, dtype=numpy.uint8).reshape(2, 3, 3)
masks = {"m": {"mask_data": numpy.array([[0, 1, 1], [2, 0, 127]]), "class_labels": {0: "sky", 1: "cat", 2: "x"}}}
unnamed = {"u": {"mask_data": numpy.array([[5, 1, 1], [5, 1, 1]])}}
everything = [
    [wandb.Image("a.png", classes=cat, boxes=two)],
    [None],
    [wandb.Image(pixels, masks={**masks, **unnamed}, boxes=boxes, caption="c", grouping=2)],
    [wandb.Image("a.png")],
]
rows = [[1, 1.5, "a", True, None], [2, float("nan"), "é", False, "z"]]
times = [[datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)], [None]]
maps = [[{"k": 1, "l": ["a"]}, None], [None, None], [{"k": 2.5, "l": []}, None]]
pictures = [
    [wandb.Image("a.png", classes=cat), 1],
    [None, 2],
    [wandb.Image("a.png", classes=cat, caption="c"), 3],
]
numbers = [[1e16, [1, 2]], [1e-7, [3]], [float("inf"), None], [-0.0, []]]
mixed = [[1], ["a"], [True]]

objects = {
    "pred": wandb.Table(columns=["id", "x", "s", "b", "n"], data=rows),
    "numbers": wandb.Table(columns=["f", "g"], data=numbers),
    "maps": wandb.Table(columns=["d", "n"], data=maps),
    "empty": wandb.Table(columns=["a"], data=[]),
    "mixed": wandb.Table(columns=["m"], data=mixed, allow_mixed_types=True),
    "times": wandb.Table(columns=["t"], data=times),
    "listnull": wandb.Table(columns=["l"], data=[[[1, None]], [[2]]]),
    "c": wandb.Classes(cat),
    "c2": wandb.Classes([{"id": 1, "name": "dö'g"}, {"id": 0, "name": 'z"'}]),
    "im": wandb.Image("a.png"),
    "captioned": wandb.Image("a.png", caption="cap", classes=[{"id": 0, "name": "c'at"}]),
    "pictures": wandb.Table(columns=["img", "y"], data=pictures),
    "h": wandb.Html("<p>hi</p>", inject=False),
    "boxes": wandb.Image("a.png", classes=cat, boxes=boxes),
    "boxtable": wandb.Table(columns=["i"], data=[[wandb.Image("a.png", classes=cat, boxes=boxes)]]),
    "pixels": wandb.Image(pixels, caption="from an array"),
    "gray": wandb.Image(pixels[:, :, 0]),
    "alpha": wandb.Image(numpy.arange(24, dtype=numpy.uint8).reshape(2, 3, 4), grouping=7),
    "twoboxes": wandb.Image("a.png", classes=[{"id": 3, "name": "wolf"}, {"id": 9, "name": "z"}], boxes=two),
    "masks": wandb.Image("a.png", masks={**masks, **unnamed}),
    "everything": wandb.Table(columns=["i"], data=everything),
    "array": wandb.Table(columns=["np"], data=[[numpy.array([1, 2, 3])]]),
    "required": wandb.Table(columns=["x", "y"], data=[[1, 2]], optional=False),
}
written = []
for name, item in objects.items():
    artifact = wandb.Artifact("x", "x")
    artifact.add(item, name)
    for path, entry in artifact.manifest.entries.items():
        if path.endswith(".json"):
            with open(entry.local_path, encoding="utf-8") as file:
                written.append([name, path, file.read()])
json.dump(written, sys.stdout, indent=0)
print()
