"""Train every detector of the paper's tables alike, on a small budget, and measure it.

    python benchmarks/baselines.py MANIFEST --runs RUNS --out benchmarks/results/baselines.json

Rows and what they share are in ``baselines.toml``. Each row sees the same faces in the same number
of steps, from random weights; what stands in the table is therefore no measure of the methods as
their authors trained them. A row that ``--out`` holds already is kept, so that the same command
goes on.
``--max-steps 2 --faces 16`` tries everything out in minutes.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mfclip.config import EvaluateSettings, RunConfig, build_config
from mfclip.data.manifest import Manifest, read_manifest
from mfclip.detectors import describe_name, load_detector
from mfclip.evaluate.report import evaluate_scores
from mfclip.evaluate.score import score_manifest
from mfclip.experiment.protocols import merge, plain_name
from mfclip.runtime.provenance import provenance
from mfclip.runtime.whole_file import write_bytes
from mfclip.train.loop import train
from mfclip.weights import BEST
from tables import ROOT, insert

ROWS = Path(__file__).with_suffix(".toml")
PAGE = ROOT / "docs" / "detectors.md"
SPLITS = ("test", "test_unseen")


def read_rows() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read what all rows share, and the settings of each: those of its model, and of ``data``."""
    tree = tomllib.loads(ROWS.read_text(encoding="utf-8"))
    rows = tree.pop("rows")
    return tree, {name: {"data": row.pop("data", {}), "model": row} for name, row in rows.items()}


def thin(manifest: Manifest, faces: int, split: str, *, seed: int = 0) -> Manifest:
    """Take at most so many faces of a split, each kind and real ones as often as in the whole.

    Args:
        manifest: what to choose from.
        faces: at most; half of them real.
        split: its name.
        seed: of the choice.
    """
    part = manifest.split(split)
    if len(part) <= faces:
        return part
    order = np.random.default_rng(seed).permutation(len(part))
    chosen: list[int] = []
    for is_fake in (False, True):
        rows = [int(row) for row in order if part[int(row)].labels.is_fake == is_fake]
        chosen += rows[: faces // 2]
    return replace(part, samples=tuple(part[row] for row in sorted(chosen)))


def plan(
    shared: Mapping[str, Any],
    row: Mapping[str, Any],
    manifest: Path,
    root: Path,
    budget: Mapping[str, int],
) -> RunConfig:
    """Settings of a row's run: as many epochs as its steps need, validated once, at the end."""
    size = budget["image_size"]
    tree = merge(merge(shared, row), {
        "model": {"image_size": size},
        "data": {"manifest": str(manifest), "root": str(root), "resize": size + size // 8},
        "train": {"epochs": budget["epochs"], "batch_size": budget["batch_size"],
                  "validate_every": budget["epochs"]},
    })  # fmt: skip
    return build_config(tree)


def measure(weights: Path, parts: Mapping[str, Manifest], resamples: int) -> dict[str, Any]:
    """Score the splits and return the AUC of each with its interval, and the size."""
    detector, card = load_detector(weights)
    settings = EvaluateSettings(bootstrap=resamples)
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in detector.parameters())}
    for split, part in parts.items():
        scores = score_manifest(
            detector, part, resize=card.resize, image_size=int(detector.image_size)
        )
        overall = evaluate_scores(scores, resamples=settings.bootstrap).rows[0]
        interval = overall.intervals.get("auc")
        found[split] = {
            "auc": overall.metrics.auc,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "real": overall.metrics.num_real,
            "fake": overall.metrics.num_fake,
        }
    return found


def render(report: Mapping[str, Any]) -> str:
    """Draw the table of docs/detectors.md."""
    lines = ["| row | parameters | test AUC | test_unseen AUC |", "|---" * 4 + "|"]
    for name, row in report["rows"].items():
        cells = [describe_name(row["model"], name), f"{row['parameters'] / 1e6:.2f} M"]
        for split in SPLITS:
            low, high = row[split]["low"], row[split]["high"]
            interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
            cells.append(f"{row[split]['auc']:.3f}{interval}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def section(report: Mapping[str, Any]) -> str:
    """Write the section of docs/detectors.md: the table, and what it may be read for."""
    budget = report["budget"]
    words = (
        f"One run each on the same {budget['faces']} development faces at {budget['image_size']} "
        f"px, {budget['max_steps']} steps of {budget['batch_size']}, from random weights, narrow "
        "where a detector has widths (`benchmarks/baselines.toml`); brackets hold the 95% interval "
        "from resamples of groups. So little training ranks no method; it shows that each learns."
    )
    return f"## All of them on one small budget\n\n{words}\n\n{render(report)}\n"


def begin(out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Take up a report of the same budget and faces, or begin one."""
    if out.is_file():
        report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if all(report.get(key) == value for key, value in facts.items()):
            return report
    return {
        "command": "python benchmarks/baselines.py",
        **asdict(provenance()),
        **facts,
        "rows": {},
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and measure each row that the report lacks, and write it after each."""
    shared, rows = read_rows()
    whole = read_manifest(arguments.manifest)
    training = thin(whole, arguments.max_steps * arguments.batch_size, "train")
    few = arguments.faces or len(whole)
    parts = {split: thin(whole, few, split) for split in SPLITS}
    used = replace(whole, samples=(*training.samples, *thin(whole, few, "val").samples))
    manifest = arguments.runs / "manifest.csv"
    used.write(manifest)
    budget = {
        "image_size": arguments.image_size,
        "batch_size": arguments.batch_size,
        "epochs": -(-arguments.max_steps // max(1, len(training) // arguments.batch_size)),
        "max_steps": arguments.max_steps,
        "faces": len(training),
    }
    facts = {"budget": budget, "data": used.fingerprint, "settings": shared}
    report = begin(arguments.out, facts)
    for name in arguments.rows or rows:
        if name in report["rows"]:
            continue
        config = plan(shared, rows[name], manifest, whole.root.resolve(), budget)
        folder = arguments.runs / plain_name(name)
        progress = train(config, folder, resume=(folder / "last.safetensors").is_file())
        report["rows"][name] = {
            "model": config.model.name,
            "config_fingerprint": config.fingerprint,
            "steps": progress.step,
            **measure(folder / BEST, parts, arguments.resamples),
        }
        order = [each for each in rows if each in report["rows"]]
        report["rows"] = {each: report["rows"][each] for each in order}
        write_bytes(arguments.out, (json.dumps(report, indent=1) + "\n").encode())
        print(f"{name}: {json.dumps(report['rows'][name])}", flush=True)
    return report


def main(given: Sequence[str] | None = None) -> None:
    """Train, measure, write the figures and the table, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the training runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write, and to go on from")
    parser.add_argument("--max-steps", type=int, default=400, help="steps of each row")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=128, help="pixels; a multiple of 64")
    parser.add_argument("--faces", type=int, default=0, help="of each other split; 0 = all")
    parser.add_argument("--resamples", type=int, default=1000, help="for the 95%% intervals")
    parser.add_argument("--rows", nargs="+", help="names in baselines.toml; default: all")
    parser.add_argument("--page", action="store_true", help="also put the table into the docs")
    arguments = parser.parse_args(given)
    known = read_rows()[1]
    for name in arguments.rows or ():
        if name not in known:
            parser.error(f"expected --rows among {', '.join(known)}, but got {name!r}")
    arguments.runs = arguments.runs.resolve()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    report = run(arguments)
    print(render(report))
    if arguments.page:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(insert(text, "baselines", section(report)), encoding="utf-8")


if __name__ == "__main__":
    main()
