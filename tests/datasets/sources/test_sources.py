"""What holds for every source: its name, its page, its contract, a clear word on a wrong root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mfclip.datasets.sources import SOURCES
from mfclip.datasets.sources.contract import Scan, ScanOptions
from mfclip.errors import ManifestError

DOCS = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", SOURCES)
def test_entry_is_complete(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name
    assert isinstance(source.scan, Scan)
    assert set(source.options) <= set(ScanOptions.__dataclass_fields__)
    assert not source.expected or source.citation
    page = (DOCS / source.page).read_text(encoding="utf-8")
    assert f"mfclip data scan {name} " in page
    for option in source.options:
        assert option in page, f"{source.page} does not explain the option {option}"
    for count in source.expected.values():
        assert f"{count:,}" in page, f"{source.page} lacks the published count {count:,}"


@pytest.mark.parametrize("name", SOURCES)
def test_empty_and_absent_roots_are_refused_with_the_page(name: str, tmp_path: Path) -> None:
    source = SOURCES[name]
    table = tmp_path / "table.toml"
    table.write_text('real = ["real"]')
    (tmp_path / "empty").mkdir()
    options = ScanOptions(
        table=table if "table" in source.options else None,
        files=tmp_path / "files" if "files" in source.options else None,
    )
    for root in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(ManifestError, match=source.page) as caught:
            source.scan(root, options)
        assert str(root) in str(caught.value)


def test_the_example_for_a_new_source_runs(plant: Callable[..., Path]) -> None:
    text = (DOCS / "docs/data/adding_a_source.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    module: dict[str, Any] = {"__name__": "mydata"}
    exec(compile(code, "adding_a_source.md", "exec", dont_inherit=True), module)
    root = plant("genuine/anna_1.mp4", "genuine/bert_1.mp4", "swapped/anna_2.mp4")
    manifest = module["MYDATA"].scan(root, ScanOptions()).manifest
    groups = {s.video_id: s.group for s in manifest}
    assert groups == {
        "genuine/anna_1": "anna",
        "genuine/bert_1": "bert",
        "swapped/anna_2": "anna",
    }
    assert {s.split for s in manifest} == {"train", "val"}
    with pytest.raises(ManifestError, match=r"MyData: expected videos .* see docs/data/mydata.md"):
        module["MYDATA"].scan(root / "genuine")
