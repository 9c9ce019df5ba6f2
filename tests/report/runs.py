"""A run's folder, made by hand in the shape that a run over many images leaves behind."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from attnviz.batch.schemas import schemas

HOSTILE = [
    "<img src=x onerror=alert(1)>.png", "</script><script>alert(1)</script>.png", "'\"&.png", "line\nbreak.png",
    "u2028\u2028end.png", "צילום-של-חתול.png", "猫の写真.jpg", "{{ 7*7 }}.png", "javascript:alert(1)", "a\u202egnp.exe",
]  # fmt: skip
LABELS = ["cat", "dog", "<b>鳥</b>"]
MAPS = [("gate.1", "attention", "gate"), ("gradcam", "attribution", "gradcam"), ("saliency", "attribution", "saliency")]
SIDE = 8
RAMP = np.linspace(0, 1, SIDE * SIDE).astype("<f2").tobytes()
CATS, DOGS = "tabby cat", "police dog"


def jpeg(number, side=64):
    """A picture that can be told from others: its number is its shade."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (number % 256, (7 * number) % 256, 120)).save(buffer, "JPEG")
    return buffer.getvalue()


def name_of(item):
    return f"photos/{HOSTILE[item]}" if item < len(HOSTILE) else f"photos/{LABELS[item % 2]}/{item:05d}.jpg"


def state_of(item, model):
    """Every seventh image fails, every third is answered wrongly; every fifth has no label."""
    if item % 7 == 5:
        return "failed", None
    return "ok", None if item % 5 == 4 else item % 3 != 2


def share_of(item, model):
    return (item * 37 % 97 + 1) / 100 - 0.005 * model


def value_of(item, model, place):
    """The number of a measure; the first of every column is missing."""
    return float("nan") if item == 0 else ((item * (place + 3) + 11 * model) % 101) / 101


def columns_of(metrics):
    """Kind, subject, other and measure of each number."""
    names = [name for name, _, _ in MAPS]
    return [
        ("answer", "", "", "margin"),
        ("site", "gate.1", "g", "hoyer"),
        ("site", "gate.2", "g", "hoyer"),
        *((kind, name, "", metric) for name, kind, _ in MAPS for metric in metrics),
        *(("pair", a, b, m) for n, a in enumerate(names) for b in names[n + 1 :] for m in ("spearman", "ssim")),
    ]


def answer_of(item, at):
    """What a model says of an image, but not of which."""
    status, correct = state_of(item, at)
    facts = {"status": status, "reason": "", "target": 3, "width": 640, "height": 480, "sha256": ""}
    if status == "failed":
        nothing = {"probability": float("nan"), "target_label": "", "top": [], "correct": None}
        return facts | nothing | {"reason": "broken <b>file</b>"}
    target, share = CATS if item % 2 else DOGS, share_of(item, at)
    top = [(3, target, share), (4, "other", (1 - share) / 2)]
    keys = ("index", "label", "probability")
    return facts | {
        "probability": share, "target_label": target, "top": [dict(zip(keys, one, strict=True)) for one in top],
        "correct": correct,
    }  # fmt: skip


def rows_of(item, models, metrics, picture):
    """The rows of each table about an image."""
    label = None if item % 5 == 4 else LABELS[item % 3]
    base = {"item": item, "image": name_of(item), "label": label}
    rows = {"measures": [], "maps": [], "thumbnails": [], "answers": []}
    rows["answers"] = [base | {"model": model} | answer_of(item, at) for at, model in enumerate(models)]
    if state_of(item, 0)[0] == "failed":
        return rows
    rows["thumbnails"] = [{"item": item, "model": "", "width": 64, "height": 64, "jpeg": picture}]
    for at, model in enumerate(models):
        for place, (kind, subject, other, measure) in enumerate(columns_of(metrics)):
            value = value_of(item, at, place)
            about = {"model": model, "kind": kind, "subject": subject, "other": other, "measure": measure}
            why = "the map is constant" if value != value else ""
            rows["measures"].append(base | about | {"value": value, "why": why})
        for name, kind, method in MAPS:
            rows["maps"].append({
                "item": item, "model": model, "name": name, "kind": kind, "method": method, "source": "",
                "height": SIDE, "width": SIDE, "low": 0.0, "high": 2.0, "signed": False, "values": RAMP,
            })  # fmt: skip
    return rows


def make_run(folder, images=40, models=("m1", "timm:m2"), shard=16, total=None, metrics=("insertion",)):
    """Write plan and tables; shards beyond ``images`` are not done."""
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
