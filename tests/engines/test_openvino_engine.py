"""One core a process: models come and go, from any thread, and a signal still finds its
handler; what is fused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny_model
from mfclip.engines.convert import to_onnx
from mfclip.engines.graph import VisionGraph
from mfclip.runtime.openvino import openvino_core

BEGIN = """
import os, signal, threading
import torch
from helpers import tiny_model
from mfclip.engines.load import build_engine

# Python's own, which is not there where a shell started the tests in its background
signal.signal(signal.SIGINT, signal.default_int_handler)

def load():
    return build_engine(tiny_model().eval(), "openvino", "fp32", torch.device("cpu"))
"""

END = """
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.sigtimedwait([], 5)  # until the interrupt comes
except KeyboardInterrupt:
    print("interrupted")
"""

SCENARIOS = {
    "loaded anew over the old one": """
engine = load()
engine = load()
del engine
""",
    "two, closed in the order they were opened": """
first, second = load(), load()
del first
del second
""",
    "loaded in a thread that ends": """
found = []
thread = threading.Thread(target=lambda: found.append(load()))
thread.start()
thread.join()
first, second = found.pop(), load()
del first
del second
""",
    "quantised, then loaded": """
from machine.int8 import quantised_engine
first = quantised_engine(tiny_model().eval())
second = load()
del first
del second
""",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_signal_after_models_were_closed_is_handled(scenario: str) -> None:
    """With a core for each model the second process ended with SIGSEGV."""
    script = BEGIN + SCENARIOS[scenario] + END
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert (done.returncode, done.stdout.split()[-2:]) == (0, ["handled", "interrupted"]), done


def test_threads_that_ask_at_once_get_the_same_core() -> None:
    with ThreadPoolExecutor(8) as pool:
        cores = list(pool.map(lambda _: openvino_core(), range(8)))
    assert all(core is cores[0] for core in cores)


def test_nothing_else_makes_a_core() -> None:
    root = Path(__file__).resolve().parents[2]
    makers = [
        path.name
        for folder in ("src", "benchmarks", "tests")
        for path in (root / folder).rglob("*.py")
        if re.search(r"openvino\.(Core|compile_model)\(", path.read_text(encoding="utf-8"))
    ]
    assert makers == ["openvino.py"]


def test_bias_and_relu_are_part_of_every_convolution() -> None:
    graph = VisionGraph(tiny_model().eval())
    core = openvino_core()
    steps = core.compile_model(core.read_model(to_onnx(graph)), "CPU").get_runtime_model().get_ops()

    def kind(step: Any) -> str:
        return str(step.get_rt_info()["layerType"].astype(str))

    sources = {
        kind(port.get_source_output().get_node())
        for step in steps
        if "Eltwise" in kind(step)
        for port in step.inputs()
    }
    assert any("Convolution" in kind(step) for step in steps)
    assert not any("Convolution" in source for source in sources)  # a pass over all maps each
