"""`mfclip data prepare`: faces a second, memory that stays flat, and a run that is killed.

    python benchmarks/prepare.py FACES/manifest.csv --out benchmarks/results/prepare.json

Runs the command on N pictures, spread over the manifest, and on 4N, which are the same ones in four
copies, so that only their number differs. Reads the largest memory of the main process and of its
workers from the operating system. Then it ends a third run of N with
SIGKILL half-way, gives the same command again, and compares the crops with those of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mfclip.data.manifest import Manifest, read_manifest
from mfclip.runtime.provenance import provenance

WATCH = 0.05
"""Seconds between two looks at a running command."""

MEBIBYTE = 1 << 20


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = measure(read_manifest(options.manifest), options.pictures, folder, options.workers)
    result = {"load_before": os.getloadavg()[0], **result, **asdict(provenance())}
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--pictures", type=int, default=40, help="N of the smaller run")
    parser.add_argument("--workers", type=int, default=1, help="processes of each run")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def measure(manifest: Manifest, count: int, folder: Path, workers: int) -> dict[str, Any]:
    runs = {}
    for name, copies in (("n", 1), ("4n", 4)):
        table = take(manifest, count, copies, folder / f"{name}.csv")
        runs[name] = {"pictures": copies * count, **finish(table, folder / name, workers)}
    killed = folder / "killed"
    done = kill_half_way(folder / "n.csv", killed, workers, count // 2)
    before = stamps(killed / "records")
    again = finish(folder / "n.csv", killed, workers)
    return {
        "workers": workers,
        "runs": runs,
        "memory_growth_main_mib": runs["4n"]["peak_main_mib"] - runs["n"]["peak_main_mib"],
        "memory_growth_worker_mib": runs["4n"]["peak_worker_mib"] - runs["n"]["peak_worker_mib"],
        "killed": {
            "finished_before": done,
            "done_twice": sum(stamps(killed / "records")[k] != t for k, t in before.items()),
            "said_by_second_run": again["said"],
            "same_files_as_whole_run": contents(killed) == contents(folder / "n"),
        },
    }


def take(manifest: Manifest, count: int, copies: int, path: Path) -> Path:
    """Copy some pictures, spread over the manifest, as often as asked, and list the copies."""
    chosen = manifest.samples[:: max(1, len(manifest) // count)][:count]
    rows = []
    for number in range(copies):
        folder = path.parent / f"raw-{path.stem}" / str(number)
        folder.mkdir(parents=True)
        for sample in chosen:
            place = Path(shutil.copy(sample.path, folder / sample.path.name))
            rows.append(replace(sample, path=place))
    Manifest(tuple(rows), path.parent).write(path)
    return path


def command(table: Path, out: Path, workers: int) -> list[str]:
    entry = "from mfclip.cli.app import main; main()"
    words = ["data", "prepare", str(table), "-o", str(out), "--workers", str(workers)]
    return [sys.executable, "-c", entry, *words]


def finish(table: Path, out: Path, workers: int) -> dict[str, Any]:
    """Run the command to its end; time, processor time and the largest memory seen."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    text = out.with_suffix(".said")
    with text.open("w") as said:
        process = subprocess.Popen(command(table, out, workers), stdout=said, stderr=said)
        peaks = watch(process, lambda: False)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"prepare ended with {process.returncode}: {text.read_text()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said_lines = [line for line in text.read_text().splitlines() if " inputs" in line]
    main_peak = peaks.pop(process.pid)
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(busy, 1),
        "peak_main_mib": main_peak,
        "peak_worker_mib": max(peaks.values(), default=0),
        "said": said_lines[-1].partition(" -> ")[0] if said_lines else "",
    }


def kill_half_way(table: Path, out: Path, workers: int, enough: int) -> int:
    """End the command with SIGKILL once `enough` inputs are done; returns how many were."""
    process = subprocess.Popen(
        command(table, out, workers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watch(process, lambda: len(stamps(out / "records")) >= enough)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(5)  # its workers end by themselves
    return len(stamps(out / "records"))


def watch(process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> dict[int, float]:
    """Largest resident memory, MiB, of a process and each of its children, until it ends."""
    peaks: dict[int, float] = {process.pid: 0.0}
    while process.poll() is None and not stop():
        for pid in (process.pid, *children(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0.0), high_water(pid))
        time.sleep(WATCH)
    return peaks


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def high_water(pid: int) -> float:
    """VmHWM: the most memory that was resident at any time, so that no peak is missed."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kibibytes = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
    return round(kibibytes * 1024 / MEBIBYTE, 1)


def stamps(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("*/*.json")}


def contents(folder: Path) -> dict[str, bytes]:
    kept = (p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".partial"))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in kept}


if __name__ == "__main__":
    main()
