"""The report of an experiment: four files beside its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfclip.experiment.report_page import to_html
from mfclip.experiment.report_text import to_csv, to_latex, to_markdown
from mfclip.experiment.results import Results, read_results
from mfclip.experiment.store import Store
from mfclip.experiment.tables import Notes, build_sections, size_table
from mfclip.runtime.whole_file import write_whole

NAMES = ("report.md", "report.csv", "report.tex", "report.html")


def write_report(folder: Path, others: Sequence[Path] = ()) -> Results:
    """Write ``report.md``, ``report.csv``, ``report.tex`` and ``report.html`` into a folder.

    Args:
        folder: of an experiment; some of its cells may be missing.
        others: folders with more cells of the same experiment, as of other machines.

    Returns:
        What the report says.

    Raises:
        InputError: a folder holds no experiment, another one, or a damaged file.
    """
    store = Store(folder, others)
    results, notes = read_results(store), Notes()
    sections, size = build_sections(results, notes), size_table(results, notes)
    texts = (
        to_markdown(results, sections, size, notes),
        to_csv(results),
        to_latex(results, sections, size),
        to_html(results, sections, size, notes, store),
    )
    for name, text in zip(NAMES, texts, strict=True):
        with write_whole(folder / name) as file:
            file.write(text)
    return results
