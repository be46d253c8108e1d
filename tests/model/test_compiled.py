"""The vision half as one graph: nothing in it waits for the host or depends on pixel values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# in a process of its own, where no shape is checked while it is traced
SCRIPT = """
import copy, torch
from helpers import pictures, tiny_model

torch.set_num_threads(1)
model = tiny_model()
for training in (False, True):
    model.train(training)
    own, traced = copy.deepcopy(model), copy.deepcopy(model)
    compiled = torch.compile(traced.encode_image, fullgraph=True, backend="eager", dynamic=True)
    for count in (3, 5):
        for images in (pictures(count), pictures(count).flip(3)):
            expected, actual = own.encode_image(images), compiled(images)
            torch.testing.assert_close(actual, expected)
            if training:
                expected.sin().sum().backward()
                actual.sin().sum().backward()
    for ours, theirs in zip(own.parameters(), traced.parameters()):
        if ours.grad is not None:
            torch.testing.assert_close(theirs.grad, ours.grad)

model.eval()
with torch.no_grad():
    batch = torch.export.Dim("batch", min=2, max=64)
    graph = torch.export.export(model, (pictures(3),), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(graph.module()(pictures(7)), model(pictures(7)))
    calls = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
assert "aten.argmin.default" in calls
host = ("aten.item", "aten._local_scalar_dense", "aten.nonzero", "aten.masked_select")
assert not [call for call in calls if call.startswith(host)], calls
"""


def test_one_graph_gives_the_same_features_gradients_and_logits() -> None:
    tests = Path(__file__).resolve().parents[1]
    code = f"import sys; sys.path.insert(0, {str(tests)!r})\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
