"""Freed memory is kept or handed back, seen by the page faults that the system counts."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mfclip.runtime.memory import keep_freed_memory, peak_memory, release_freed_memory

BLOCK = 48 << 20
"""Bytes; above all thresholds of glibc."""

COUNT_FAULTS = f"""
import json, resource, torch
from mfclip.runtime.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty({BLOCK}, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

counts = [faults()]
keep_freed_memory()
for _ in range(4):
    faults()  # the heap grows until a block finds room in it
counts.append(faults())
keep_freed_memory(keep=False)
counts.append(faults())
print(json.dumps(counts))
"""


def test_kept_memory_is_not_cleared_again_by_the_system() -> None:
    if not keep_freed_memory(keep=False):
        pytest.skip("not glibc")
    command = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    before, kept, after = json.loads(done.stdout)
    assert kept < before / 10
    assert kept < after / 10


RELEASE = """
import json, threading
from mfclip.runtime.memory import release_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def work(kept):
    blocks = [bytes(8192) for _ in range(8192)]  # 64 MiB
    kept.append(blocks[-1])  # the top of the thread's heap stays in use

kept, sizes = [], []
threads = [threading.Thread(target=work, args=(kept,)) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sizes.append(resident())
release_freed_memory()
sizes.append(resident())
print(json.dumps(sizes))
"""


def test_what_threads_freed_goes_back_to_the_system() -> None:
    if not release_freed_memory():
        pytest.skip("not glibc")
    command = [sys.executable, "-c", RELEASE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    before, after = json.loads(done.stdout)
    assert before - after > 48 << 20


COUNT_HEAPS = """
import ctypes, json, pathlib, sys, threading
from mfclip.runtime.memory import share_heaps

if sys.argv[1] == "shared":
    share_heaps(2)
together, done = threading.Barrier(7, timeout=30), threading.Barrier(7, timeout=30)

def work():
    blocks = [bytes(8192) for _ in range(100)]
    together.wait()
    done.wait()

threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads:
    thread.start()
together.wait()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(library.fopen(sys.argv[2].encode(), b"w"))
library.malloc_info(0, file)
library.fclose(file)
done.wait()
print(pathlib.Path(sys.argv[2]).read_text().count("<heap nr="))
"""


def test_threads_share_two_heaps(tmp_path: Path) -> None:
    if not release_freed_memory():
        pytest.skip("not glibc")
    counts = {}
    for way in ("shared", "own"):
        command = [sys.executable, "-c", COUNT_HEAPS, way, str(tmp_path / way)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        counts[way] = int(done.stdout)
    assert counts["shared"] <= 2 < counts["own"]


def test_peak_memory_counts_what_was_held_and_never_falls() -> None:
    before = peak_memory(torch.device("cpu"))
    held = np.ones(before + BLOCK - _resident(), dtype=np.uint8)
    during = peak_memory(torch.device("cpu"))
    assert during - before == pytest.approx(BLOCK, rel=0.25)
    assert held.all()
    del held
    assert peak_memory(torch.device("cpu")) >= during


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
