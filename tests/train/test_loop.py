"""A run against itself: resumed, killed, in two processes; and its errors."""

from __future__ import annotations

import json
import math
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch._dynamo.utils import counters

from mfclip.config import build_config, load_config
from mfclip.data.manifest import Framing, read_manifest
from mfclip.data.shards import write_shards
from mfclip.detectors import build_detector, load_detector
from mfclip.errors import ConfigError, ManifestError, TrainingError
from mfclip.model.mfclip import MFCLIP
from mfclip.train.feed import open_manifest
from mfclip.train.loop import LAST, Run, train
from mfclip.train.processes import join_processes
from mfclip.train.step import Learner, checkpoint_activations, compile_parts
from mfclip.weights import BEST, read_tensors


def _log(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def _assert_same_state(left: Path, right: Path) -> None:
    first, second = read_tensors(left), read_tensors(right)
    assert first[1]["progress"] == second[1]["progress"]
    assert first[0].keys() == second[0].keys()
    for name, tensor in first[0].items():
        assert torch.equal(tensor, second[0][name]), name


@pytest.mark.parametrize("stop", [2, 4, 5])
def test_resumed_run_equals_uninterrupted_to_the_bit(
    tiny_run: dict[str, Any], tmp_path: Path, stop: int
) -> None:
    tiny_run["train"] |= {"ema": 0.9, "clip_norm": 1.0}
    tiny_run["model"]["dropout"] = 0.3  # draws random numbers in every step
    config = build_config(tiny_run)
    train(config, tmp_path / "whole", device="cpu")
    train(config, tmp_path / "parts", device="cpu", max_steps=stop)
    train(config, tmp_path / "parts", device="cpu", resume=True)
    _assert_same_state(tmp_path / "whole" / LAST, tmp_path / "parts" / LAST)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "schedule": "onecycle", "ema": 0.9},
        {"schedule": "plateau", "patience": 0, "step_gamma": 0.5, "validate_every": 0.5},
        {"optimizer": "sgd", "step_iterations": 3, "learn": ["head.*", "*norm*"]},
        {"optimizer": "adamw", "schedule": "cosine", "groups": [{"match": "head.*", "lr": 0.01}]},
    ],
)
def test_every_schedule_resumes_to_the_bit(
    tiny_run: dict[str, Any], tmp_path: Path, settings: dict[str, Any]
) -> None:
    tiny_run["train"] |= settings
    config = build_config(tiny_run)
    whole = train(config, tmp_path / "whole", device="cpu")
    for stop in (3, 6):  # 6: where the plateau is validated
        train(config, tmp_path / "parts", device="cpu", resume=stop > 3, max_steps=stop)
    train(config, tmp_path / "parts", device="cpu", resume=True)
    _assert_same_state(tmp_path / "whole" / LAST, tmp_path / "parts" / LAST)
    rates = [[entry["lr"] for entry in _log(tmp_path / run, "train")] for run in ("whole", "parts")]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 1
    assert len(whole.history) == 2 / tiny_run["train"].get("validate_every", 1)


class Counting(MFCLIP):
    """Keeps how far training is, as its `advance` is told."""

    not_averaged = ("told",)

    def advance(self, done: float, epoch: int) -> None:
        self.told += torch.tensor([done, epoch])


def test_a_detector_is_told_how_far_training_is(
    tiny_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_run["train"]["ema"] = 0.9
    config = build_config(tiny_run)

    def build(*settings: Any) -> MFCLIP:
        detector = build_detector(*settings)
        detector.__class__ = Counting
        detector.register_buffer("told", torch.zeros(2))
        return detector

    monkeypatch.setattr("mfclip.train.loop.build_detector", build)
    train(config, tmp_path / "whole", device="cpu")
    train(config, tmp_path / "parts", device="cpu", max_steps=3)
    train(config, tmp_path / "parts", device="cpu", resume=True)
    _assert_same_state(tmp_path / "whole" / LAST, tmp_path / "parts" / LAST)
    tensors, _ = read_tensors(tmp_path / "whole" / LAST)
    # before each of 8 steps of 2 epochs: shares 0/8 ... 7/8, epochs 0 and 1
    assert tensors["model.told"].tolist() == tensors["average.told"].tolist() == [28 / 8, 4]


def test_a_run_ends_when_validation_gains_no_more(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    tiny_run["train"] |= {"epochs": 9, "stop_after": 2, "optimizer": "sgd", "lr": 1e-30}
    tiny_run["train"]["freeze"] = ["vision_encoder"]  # statistics of batch norms would move on
    config = build_config(tiny_run)
    progress = train(config, tmp_path, device="cpu")  # nothing changes, so the first is the best
    assert (progress.epoch, len(progress.history)) == (3, 3)
    assert train(config, tmp_path, device="cpu", resume=True).epoch == 3


@pytest.mark.parametrize(("every", "steps"), [(0.1, [1, 2, 3, 4]), (0.5, [2, 4]), (0.75, [3, 4])])
def test_parts_of_an_epoch_are_validated(
    tiny_run: dict[str, Any], tmp_path: Path, every: float, steps: list[int]
) -> None:
    tiny_run["train"] |= {"epochs": 1, "validate_every": every}
    progress = train(build_config(tiny_run), tmp_path, device="cpu")
    assert [entry["step"] for entry in _log(tmp_path, "val")] == steps
    assert [entry["epoch"] for entry in progress.history] == [step / 4 for step in steps]


@pytest.mark.slow
def test_killed_run_resumes_to_the_bit(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    tiny_run["train"] |= {"epochs": 6, "checkpoint_every": 3}
    config = build_config(tiny_run)
    (tmp_path / "run.json").write_text(json.dumps(tiny_run))
    code = (
        "import json, pathlib, torch; torch.set_num_threads(1);"
        "from mfclip.config import build_config; from mfclip.train.loop import train;"
        f"tree = json.loads(pathlib.Path({str(tmp_path / 'run.json')!r}).read_text());"
        f"train(build_config(tree), pathlib.Path({str(tmp_path / 'killed')!r}), device='cpu')"
    )
    victim = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not (tmp_path / "killed" / LAST).exists() and time.monotonic() < end:
        assert victim.poll() is None
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait(60) == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(config, tmp_path / "killed", device="cpu", resume=True)
        train(config, tmp_path / "whole", device="cpu")
    finally:
        torch.set_num_threads(threads)
    _assert_same_state(tmp_path / "whole" / LAST, tmp_path / "killed" / LAST)


def test_run_learns_and_keeps_the_best_by_validation(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    tiny_run["train"]["epochs"] = 12
    progress = train(build_config(tiny_run), tmp_path, device="cpu")
    losses = [entry["loss"] for entry in _log(tmp_path, "train")]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    assert progress.best == max(entry["auc"] for entry in _log(tmp_path, "val"))
    assert progress.best == 1.0  # the grid is plain to see
    detector, card = load_detector(tmp_path / BEST)
    assert card.validation["auc"] == progress.best
    assert len(detector.prompts) == 3  # real, A, B
    assert (tmp_path / "config.toml").read_text().startswith("seed = 0")


def test_pictures_that_cannot_be_validated_are_counted(
    tiny_run: dict[str, Any], tmp_path: Path, made_faces: Path
) -> None:
    folder = shutil.copytree(made_faces.parent, tmp_path / "faces")
    (folder / "25.png").write_bytes(b"no picture")  # a fake of the validation split
    tiny_run["data"]["manifest"] = str(folder / "manifest.csv")
    tiny_run["train"]["epochs"] = 1
    train(build_config(tiny_run), tmp_path / "run", device="cpu")
    (record,) = _log(tmp_path / "run", "val")
    assert record["unreadable"] == 1
    assert 0 <= record["auc"] <= 1


def test_terms_sum_to_the_loss(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    train(build_config(tiny_run), tmp_path, device="cpu", max_steps=2)
    for entry in _log(tmp_path, "train"):
        parts = entry["cross_entropy"] + entry["contrastive"] + entry["kl"]
        assert entry["loss"] == pytest.approx(parts)


def test_parts_of_a_batch_are_compared_with_each_other(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    first = []
    for accumulate in (1, 2, 6):
        tiny_run["train"]["accumulate"] = accumulate
        out = tmp_path / str(accumulate)
        train(build_config(tiny_run), out, device="cpu", max_steps=2)
        record = _log(out, "train")[0]
        first.append([record[name] for name in ("contrastive", "kl", "cross_entropy")])
    # batch norm sees other statistics, so the losses are near but not equal; a mean over parts
    # would have log 3 or log 1 in the place of log 6
    assert first[0][0] == pytest.approx(math.log(6), rel=0.2)
    assert first[1] == pytest.approx(first[0], rel=0.2)
    assert first[2] == pytest.approx(first[0], rel=0.3)
    assert first[1] != first[0]


def test_unequal_parts_of_a_mean_are_weighed_by_their_samples(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    # only the cross-entropy; batch norm in the noise branch of one image has no variance to show
    tiny_run["model"]["use_text"] = False
    tiny_run["train"] |= {"batch_size": 5, "accumulate": 2, "lr": 1e-9}
    train(build_config(tiny_run), tmp_path / "run", device="cpu", max_steps=1)
    config = build_config(tiny_run)
    with join_processes("cpu") as processes:
        run = Run(config, open_manifest(config), tmp_path, processes)
        batch = next(iter(run.loader.epoch(0, 0)))
        run.learner.begin()
        losses = [run.learner.step(part)["cross_entropy"].item() for part in batch.split(2)]
    expected = (3 * losses[0] + 2 * losses[1]) / 5
    assert _log(tmp_path / "run", "train")[0]["cross_entropy"] == pytest.approx(expected)


def test_recomputed_activations_give_the_same_run(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    for recomputed in (False, True):
        tiny_run["train"]["checkpoint_activations"] = recomputed
        out = tmp_path / str(recomputed)
        train(build_config(tiny_run), out, device="cpu", max_steps=5)
    kept, recomputed_ = (read_tensors(tmp_path / name / LAST)[0] for name in ("False", "True"))
    torch.testing.assert_close(recomputed_, kept, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mfclip", "cvit"])
def test_recomputed_activations_are_not_held(name: str) -> None:
    sizes: dict[str, Any] = {"image_size": 64, "embed_dim": 16, "num_heads": 2}
    sizes["image"] = {"widths": [4, 8], "convs": [2, 2], "depth": 1}
    if name == "mfclip":
        sizes["noise"] = {"widths": [4, 8], "convs": [2, 2], "depth": 1, "patch_size": 32}
    settings = build_config({"model": {"name": name, **sizes}}).model
    detector = build_detector(settings).train()
    held: list[int] = []

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor.numel() * (not isinstance(tensor, torch.nn.Parameter)))
        return tensor

    sums = []
    for _ in range(2):
        held.clear()
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            detector(torch.rand(3, 3, 64, 64))
        sums.append(sum(held))
        checkpoint_activations(detector)
    assert sums[1] < sums[0] / 2


def test_a_detector_without_our_stages_cannot_recompute_them() -> None:
    with pytest.raises(ConfigError, match=r"no convolution stages.*raise train\.accumulate"):
        checkpoint_activations(torch.nn.Conv2d(3, 4, 3))


def test_peak_memory_is_logged(tiny_run: dict[str, Any], tmp_path: Path) -> None:
    train(build_config(tiny_run), tmp_path, device="cpu", max_steps=2)
    peaks = [entry["peak_memory_mb"] for entry in _log(tmp_path, "train")]
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 * 1.024
    assert peaks == sorted(peaks)
    assert 50 < peaks[-1] <= now + 1


def test_run_on_shards_needs_no_training_files_and_resumes_to_the_bit(
    tiny_run: dict[str, Any], made_faces: Path, tmp_path: Path
) -> None:
    whole = read_manifest(made_faces)
    write_shards(whole.split("train"), tmp_path / "shards", samples_per_shard=7)
    for sample in whole.where(lambda s: s.split == "val"):
        shutil.copy(sample.path, tmp_path)
    shutil.copy(made_faces, tmp_path)
    tiny_run["data"] |= {
        "manifest": str(tmp_path / "manifest.csv"), "shards": str(tmp_path / "shards")
    }  # fmt: skip
    config = build_config(tiny_run)
    assert train(config, tmp_path / "whole", device="cpu").epoch == 2
    train(config, tmp_path / "parts", device="cpu", max_steps=5)
    train(config, tmp_path / "parts", device="cpu", resume=True)
    _assert_same_state(tmp_path / "whole" / LAST, tmp_path / "parts" / LAST)


def test_shards_that_do_not_fit_are_refused(
    tiny_run: dict[str, Any], made_faces: Path, tmp_path: Path
) -> None:
    write_shards(read_manifest(made_faces).split("test"), tmp_path / "shards")
    tiny_run["data"]["shards"] = str(tmp_path / "shards")
    with pytest.raises(ManifestError, match="not packed from split 'train' of this manifest"):
        train(build_config(tiny_run), tmp_path / "run", device="cpu")
    tiny_run["data"]["sampling"] = "balanced"
    with pytest.raises(ConfigError, match=r"can only be shuffled.*set data\.sampling=shuffle"):
        train(build_config(tiny_run), tmp_path / "run", device="cpu")


def test_test_split_is_never_read(
    tiny_run: dict[str, Any], made_faces: Path, tmp_path: Path
) -> None:
    text = made_faces.read_text().replace(",test,", ",test,").splitlines()
    rows = [row if ",test," not in row else "absent-" + row for row in text]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    tiny_run["data"] |= {"manifest": str(manifest), "root": str(made_faces.parent)}
    assert train(build_config(tiny_run), tmp_path / "run", device="cpu", max_steps=1).step == 1


def test_loss_that_is_not_finite_stops_with_the_last_checkpoint_intact(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    tiny_run["train"] |= {"lr": 1e30, "checkpoint_every": 1}
    with pytest.raises(TrainingError, match="not finite at step"):
        train(build_config(tiny_run), tmp_path, device="cpu")
    if (tmp_path / LAST).exists():
        tensors, _ = read_tensors(tmp_path / LAST)
        weights = [t for name, t in tensors.items() if name.startswith("model.")]
        assert all(math.isfinite(float(t.double().abs().sum())) for t in weights)


def test_full_disk_is_reported_and_the_old_checkpoint_stays(
    tiny_run: dict[str, Any], tmp_path: Path
) -> None:
    config = build_config(tiny_run)
    train(config, tmp_path, device="cpu", max_steps=1)
    before = (tmp_path / LAST).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(TrainingError, match="cannot write the checkpoint"):
            train(config, tmp_path, device="cpu", resume=True, max_steps=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / LAST).read_bytes() == before
    assert not list(tmp_path.glob(".*partial"))


def test_errors_say_what_to_do(tiny_run: dict[str, Any], made_faces: Path, tmp_path: Path) -> None:
    config = build_config(tiny_run)
    train(config, tmp_path / "run", device="cpu", max_steps=1)
    with pytest.raises(ConfigError, match="already holds a run; go on with --resume"):
        train(config, tmp_path / "run", device="cpu")
    other = build_config({**tiny_run, "seed": 5})
    with pytest.raises(ConfigError, match="another configuration"):
        train(other, tmp_path / "run", device="cpu", resume=True)
    with pytest.raises(ConfigError, match=r"set data\.manifest"):
        train(build_config({}), tmp_path / "none", device="cpu")
    one_class = tmp_path / "one_class.csv"
    rows = made_faces.read_text().splitlines()
    kept = [row for row in rows if not (",real," in row and ",val," in row)]
    one_class.write_text("\n".join(kept))
    tiny_run["data"] |= {"manifest": str(one_class), "root": str(made_faces.parent)}
    with pytest.raises(ManifestError, match="'val' holds only fake faces; it needs real and fake"):
        train(build_config(tiny_run), tmp_path / "one_class", device="cpu")
    tiny_run["data"]["manifest"] = str(made_faces)
    tiny_run["data"]["root"] = str(tmp_path)
    with pytest.raises(ManifestError, match="36 of the manifest's files are not on disk"):
        train(build_config(tiny_run), tmp_path / "absent", device="cpu")


def test_memory_that_runs_out_is_named_as_such(
    tiny_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(*_: Any, **__: Any) -> None:
        torch.empty(1 << 60)  # an exbibyte

    monkeypatch.setattr("mfclip.train.loop.Learner.learn", learn)
    with pytest.raises(TrainingError, match=r"memory ran out \(.*lower train\.batch_size.*accumul"):
        train(build_config(tiny_run), tmp_path, device="cpu")


def test_the_card_carries_how_the_faces_were_cut(
    tiny_run: dict[str, Any], made_faces: Path, tmp_path: Path
) -> None:
    manifest = replace(read_manifest(made_faces), framing=Framing(1.7, align=False))
    manifest.write(tmp_path / "data" / "m.csv")
    place = {"manifest": str(tmp_path / "data" / "m.csv"), "root": str(made_faces.parent)}
    tiny_run["data"] |= place
    train(build_config(tiny_run), tmp_path / "run", device="cpu")
    card = load_detector(tmp_path / "run" / BEST)[1]
    assert (card.face_margin, card.face_align) == (1.7, False)
    resolved = load_config(tmp_path / "run" / "config.toml").data
    assert (resolved.face_margin, resolved.face_align) == (1.7, False)
    tiny_run["data"]["face_align"] = True
    with pytest.raises(ConfigError, match=r"face_align = True contradicts .* margin 1\.7"):
        train(build_config(tiny_run), tmp_path / "other", device="cpu")
    assert not (tmp_path / "other").exists()


@pytest.fixture
def damaged_faces(made_faces: Path, tmp_path: Path) -> Path:
    """The made faces, of which two that train and one that validates cannot be read."""
    folder = shutil.copytree(made_faces.parent, tmp_path / "faces")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:200])
    (folder / "8.png").write_bytes(b"no picture")
    (folder / "25.png").write_bytes(b"")
    return folder / "manifest.csv"


def test_unreadable_pictures_are_counted_listed_and_passed_over(
    tiny_run: dict[str, Any],
    damaged_faces: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_run["data"]["manifest"] = str(damaged_faces)
    config = build_config(tiny_run)
    train(config, tmp_path / "whole", device="cpu")
    lines = (tmp_path / "whole" / "unreadable.jsonl").read_text().splitlines()
    listed = {Path(entry["path"]).name: entry["error"] for entry in map(json.loads, lines)}
    assert listed.keys() == {"3.png", "8.png", "25.png"}
    assert "the file is empty" in listed["25.png"]
    assert "3 pictures cannot be read, listed in" in capsys.readouterr().err
    # taken up again: the same run, and nothing is listed twice
    train(config, tmp_path / "parts", device="cpu", max_steps=5)
    train(config, tmp_path / "parts", device="cpu", resume=True)
    _assert_same_state(tmp_path / "whole" / LAST, tmp_path / "parts" / LAST)
    again = (tmp_path / "parts" / "unreadable.jsonl").read_text().splitlines()
    assert sorted(again) == sorted(lines)


def test_too_many_unreadable_pictures_end_the_run(
    tiny_run: dict[str, Any], damaged_faces: Path, tmp_path: Path
) -> None:
    tiny_run["data"] |= {"manifest": str(damaged_faces), "max_unreadable": 2}
    message = r"3 pictures cannot be read.*max_unreadable is 2: mend them.*The first: .*png: "
    with pytest.raises(TrainingError, match=message):
        train(build_config(tiny_run), tmp_path / "run", device="cpu")
    tiny_run["data"]["max_unreadable"] = 0
    with pytest.raises(TrainingError, match="1 pictures cannot be read"):
        train(build_config(tiny_run), tmp_path / "none", device="cpu")


def test_compiled_graphs_do_not_depend_on_labels(
    tiny_run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what checks shapes in tests cannot be compiled
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    graphs: list[int] = []
    learn = Learner.learn

    def count(self: Learner, *arguments: Any, **named: Any) -> Any:
        terms = learn(self, *arguments, **named)
        graphs.append(counters["stats"]["unique_graphs"])
        return terms

    counters.clear()
    monkeypatch.setattr(Learner, "learn", count)
    monkeypatch.setattr("mfclip.train.step.compile_parts", partial(compile_parts, backend="eager"))
    tiny_run["train"]["compile"] = True
    train(build_config(tiny_run), tmp_path / "compiled", device="cpu")
    assert len(graphs) == 8
    assert 0 < graphs[0] == graphs[3]  # an epoch of changing labels
    assert graphs[7] <= graphs[0] + 2  # validation has another mode and a batch of another size
    monkeypatch.undo()
    tiny_run["train"]["compile"] = False
    train(build_config(tiny_run), tmp_path / "plain", device="cpu")
    losses = [[e["loss"] for e in _log(tmp_path / run, "train")] for run in ("compiled", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_what_makes_a_training_useless_or_slow_is_said_at_its_start(
    tiny_run: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for support in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, support, lambda: False)
    tiny_run["model"]["spa"] = {"mode": "content"}
    train(build_config(tiny_run), tmp_path / "plain", device="cpu", max_steps=1)
    said = capsys.readouterr().err
    assert "warning: model.spa.mode = 'content'" in said
    assert "emulates" not in said
    tiny_run["train"]["precision"] = "bf16-mixed"
    train(build_config(tiny_run), tmp_path / "bf16", device="cpu", max_steps=1)
    assert "warning: this processor has no instructions for bf16-mixed" in capsys.readouterr().err
