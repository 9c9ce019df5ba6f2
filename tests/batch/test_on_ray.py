"""Shards on a real cluster of two machines: the same files, also when one machine is lost in the middle."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from batch_photos import CLI, parquet, picture

from attnviz.batch import RunOptions, run
from attnviz.errors import DeviceError, OutputError

ray = pytest.importorskip("ray", reason="Ray is not installed")

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours

MEMORY = 80 * 2**20
OPTIONS = RunOptions(models=("tiny_model:build",), methods=("saliency", "gradcam"), batch=2, shard_size=2)
SETTINGS = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for n in range(16):
        (folder / f"{n:02d}.png").write_bytes(picture(n) if n != 5 else b"bad")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines with one processor each; what they run finds the tiny model."""
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parents[2]), str(CLI)]), OMP_NUM_THREADS="1",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_USAGE_STATS_ENABLED="0",
    )  # fmt: skip
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, "_system_config": SETTINGS,
        },
    )  # fmt: skip
    other = made.add_node(num_cpus=1, object_store_memory=MEMORY)
    yield SimpleNamespace(cluster=made, address=made.address, other=other)
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


def engine(cluster, **options):
    from attnviz.batch.ray_engine import Cluster, RayEngine

    return RayEngine(Cluster(cluster.address, **options), "cpu", 1)


def events(out: Path, name: str) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


@pytest.fixture
def single_threaded() -> Iterator[None]:
    """As many threads as an actor with one processor: sums of floats are then taken in the same order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("single_threaded")
def test_two_machines_write_the_same_files_and_go_on_with_a_run_that_was_begun(photos, cluster, tmp_path) -> None:
    run([str(photos)], str(tmp_path / "local"), OPTIONS)
    whole, seen = parquet(tmp_path / "local"), []
    done = run(
        [str(photos)], str(tmp_path / "ray"), OPTIONS, engine=engine(cluster), progress=lambda *now: seen.append(now)
    )  # fmt: skip
    assert done.computed == 16
    assert seen[-1] == ("look", 16, 16)
    assert parquet(tmp_path / "ray") == whole
    for shard in (1, 6):
        (tmp_path / "ray" / "answers" / f"part-{shard:06d}.parquet").unlink()
    again = run([str(photos)], str(tmp_path / "ray"), OPTIONS, engine=engine(cluster, actors=1))
    assert (again.before, again.computed) == (12, 4)
    assert parquet(tmp_path / "ray") == whole


def test_missing_machines_and_folders_that_cannot_be_written_are_errors(photos, cluster, tmp_path) -> None:
    from attnviz.batch.ray_engine import Cluster, RayEngine

    with pytest.raises(DeviceError, match=r"no machine of the cluster has 1 CPU and 1 GPU .*1 CPU, 0 GPU"):
        run([str(photos)], str(tmp_path / "a"), OPTIONS, engine=engine(cluster, gpus=1.0, cpus=1.0))
    (tmp_path / "b").mkdir()
    run([str(photos)], str(tmp_path / "b"), replace(OPTIONS, limit=2))
    (tmp_path / "b" / "answers" / "part-000000.parquet").unlink()
    (tmp_path / "b" / "maps" / "part-000000.parquet").unlink()
    (tmp_path / "b" / "maps" / "part-000000.parquet").mkdir()  # where an actor cannot write
    with pytest.raises(OutputError, match=r"cannot be written: Is a directory; 0 of 2 images are kept"):
        run([str(photos)], str(tmp_path / "b"), replace(OPTIONS, limit=2), engine=engine(cluster))
    if not ray.is_initialized():
        with pytest.raises(DeviceError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
            run([str(photos)], str(tmp_path / "c"), OPTIONS, engine=RayEngine(Cluster("127.0.0.1:1")))


@pytest.mark.usefixtures("single_threaded")
def test_a_machine_that_is_lost_in_the_middle_costs_nothing(cluster, tmp_path) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(60):
        (tmp_path / "photos" / f"{n:02d}.png").write_bytes(picture(n))
    slow = replace(OPTIONS, models=("tiny_model:slow",), methods=("saliency",))
    out, lost_at = tmp_path / "ray", []

    def lose(_step: str, done: int, _total: int) -> None:
        at_work = {one["machine"] for one in events(out, "shard")} if done else set()
        if len(at_work) == 2 and not lost_at:
            lost_at.append(done)
            cluster.cluster.remove_node(cluster.other, allow_graceful=False)

    given = [str(tmp_path / "photos")]
    run(given, str(out), slow, engine=engine(cluster, actors=2), progress=lose)
    assert lost_at[0] < 60  # both machines were at work
    assert len(events(out, "lost")) == 1  # and what one of them was at was done by the other
    run(given, str(tmp_path / "local"), slow)
    assert parquet(out) == parquet(tmp_path / "local")
