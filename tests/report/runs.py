"""A synthetic run folder in the format of ``attnviz report``."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from attnviz.batch.schemas import schemas

UNUSUAL_NAMES = [
    "<img src=x onerror=alert(1)>.png", "</script><script>alert(1)</script>.png", "'\"&.png", "line\nbreak.png",
    "u2028\u2028end.png", "צילום-של-חתול.png", "猫の写真.jpg", "{{ 7*7 }}.png", "javascript:alert(1)", "a\u202egnp.exe",
]  # fmt: skip
LABELS = ["cat", "dog", "<b>鳥</b>"]
MAPS = [("gate.1", "attention", "gate"), ("gradcam", "attribution", "gradcam"), ("saliency", "attribution", "saliency")]
SIDE = 8
RAMP = np.linspace(0, 1, SIDE * SIDE).astype("<f2").tobytes()
CATS, DOGS = "tabby cat", "police dog"


def jpeg(number, side=64):
    """Return a picture whose colour depends on its number."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (number % 256, (7 * number) % 256, 120)).save(buffer, "JPEG")
    return buffer.getvalue()


def name_of(item):
    return f"photos/{UNUSUAL_NAMES[item]}" if item < len(UNUSUAL_NAMES) else f"photos/{LABELS[item % 2]}/{item:05d}.jpg"


def state_of(item, model):
    """Every seventh image fails, every third prediction is wrong, every fifth image has no label."""
    if item % 7 == 5:
        return "failed", None
    return "ok", None if item % 5 == 4 else item % 3 != 2


def share_of(item, model):
    return (item * 37 % 97 + 1) / 100 - 0.005 * model


def value_of(item, model, at):
    """Return the number of a measure; it is missing for the first image."""
    return float("nan") if item == 0 else ((item * (at + 3) + 11 * model) % 101) / 101


def columns_of(metrics):
    """Return kind, subject, other and measure of each number."""
    names = [name for name, _, _ in MAPS]
    return [
        ("answer", "", "", "margin"),
        ("site", "gate.1", "g", "hoyer"),
        ("site", "gate.2", "g", "hoyer"),
        *((kind, name, "", metric) for name, kind, _ in MAPS for metric in metrics),
        *(("pair", a, b, m) for n, a in enumerate(names) for b in names[n + 1 :] for m in ("spearman", "ssim")),
    ]


def prediction_of(item, at):
    """Return the columns of a prediction, without image and model."""
    status, correct = state_of(item, at)
    facts = {"status": status, "reason": "", "target": 3, "width": 640, "height": 480, "sha256": ""}
    if status == "failed":
        missing = {"probability": float("nan"), "target_label": "", "top": [], "correct": None}
        return facts | missing | {"reason": "broken <b>file</b>"}
    target, share = CATS if item % 2 else DOGS, share_of(item, at)
    top = [(3, target, share), (4, "other", (1 - share) / 2)]
    keys = ("index", "label", "probability")
    return facts | {
        "probability": share, "target_label": target, "top": [dict(zip(keys, one, strict=True)) for one in top],
        "correct": correct,
    }  # fmt: skip


def rows_of(item, models, metrics, picture):
    """Return the rows of each table for an image."""
    label = None if item % 5 == 4 else LABELS[item % 3]
    base = {"item": item, "image": name_of(item), "label": label}
    rows = {"measures": [], "maps": [], "thumbnails": [], "answers": []}
    rows["answers"] = [base | {"model": model} | prediction_of(item, at) for at, model in enumerate(models)]
    if state_of(item, 0)[0] == "failed":
        return rows
    rows["thumbnails"] = [{"item": item, "model": "", "width": 64, "height": 64, "jpeg": picture}]
    for at, model in enumerate(models):
        for column, (kind, subject, other, measure) in enumerate(columns_of(metrics)):
            value = value_of(item, at, column)
            key = {"model": model, "kind": kind, "subject": subject, "other": other, "measure": measure}
            why = "the map is constant" if value != value else ""
            rows["measures"].append(base | key | {"value": value, "why": why})
        for name, kind, method in MAPS:
            rows["maps"].append({
                "item": item, "model": model, "name": name, "kind": kind, "method": method, "source": "",
                "height": SIDE, "width": SIDE, "low": 0.0, "high": 2.0, "signed": False, "values": RAMP,
            })  # fmt: skip
    return rows


def make_run(folder, images=40, models=("m1", "timm:m2"), shard=16, total=None, metrics=("insertion",)):
    """Write plan and tables. Shards after ``images`` are missing, as in an unfinished run."""
    pictures = [jpeg(shade) for shade in range(min(256, images))]
    for number in range(-(-images // shard)):
        members = range(number * shard, min(images, (number + 1) * shard))
        found = [rows_of(item, models, metrics, pictures[item % len(pictures)]) for item in members]
        for name in ("measures", "maps", "thumbnails", "answers"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist([row for one in found for row in one[name]], schema=schemas()[name])
            pq.write_table(table, folder / name / f"part-{number:06d}.parquet")
    plan = {
        "schema": "attnviz.batch", "version": 1, "fingerprint": "f", "settings": {"seed": 0, "weights": "none"},
        "total": total or images, "methods": ["gradcam", "saliency"], "metrics": list(metrics), "shard_size": shard,
        "models": [{"name": model, "methods": ["gradcam"], "notes": ["a note"]} for model in models],
        "versions": {"attnviz": "0.1.0"},
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder
