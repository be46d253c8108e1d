"""The command line starts quickly: what costs time to import is imported when it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files

import pytest

SLOW_FOR_ALL = {"torch", "numpy", "pydantic", "PIL", "huggingface_hub", "jaxtyping", "safetensors"}
"""Not needed to read the command and to show its help."""

SLOW_FOR_PICTURES = {
    "av", "fastapi", "huggingface_hub", "matplotlib", "nncf", "onnx", "onnxruntime",
    "openvino", "pandas", "scipy", "skimage", "sklearn", "tensorboard", "torchvision",
    "torch._dynamo", "torch._inductor", "weasyprint",
}  # fmt: skip
"""Not needed to judge one picture with the embedded weights."""

PICTURE = files("mfclip").joinpath("assets/demo/real/collins.jpg")


def modules_after(code: str) -> set[str]:
    """Names of all modules a fresh process holds after some code."""
    code += "\nimport sys\nprint('modules:', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    return set(done.stdout.rpartition("modules:")[2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import mfclip, mfclip.cli",
        "from typer.testing import CliRunner\nfrom mfclip.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0",
    ],
)
def test_no_heavy_package_to_read_a_command(code: str) -> None:
    loaded = modules_after(code)
    assert "mfclip.cli.predict" in loaded
    assert not loaded & SLOW_FOR_ALL


@pytest.mark.slow
def test_one_picture_needs_no_other_engine_or_network_package() -> None:
    loaded = modules_after(
        "from typer.testing import CliRunner\nfrom mfclip.cli.app import app\n"
        f"done = CliRunner().invoke(app, ['predict', {str(PICTURE)!r}])\n"
        "assert done.exit_code == 0, done.output"
    )
    assert "mfclip.predict.predictor" in loaded
    assert not loaded & SLOW_FOR_PICTURES


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp runs PyTorch's threads on Linux only")
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, "GOMP_SPINCOUNT = '2000'"), ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'")],
)
def test_threads_wait_awake_only_for_a_moment(chosen: dict[str, str], expected: str) -> None:
    """libgomp itself says what it goes by once it is loaded."""
    ours = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"}
    rest = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-m", "mfclip", "predict", "absent.jpg"],
        capture_output=True, text=True, timeout=300, check=False,
        env={**rest, **chosen, "OMP_DISPLAY_ENV": "VERBOSE"},
    )  # fmt: skip
    assert expected in done.stderr
