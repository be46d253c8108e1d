"""``mfclip predict``: judge pictures and videos on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfclip.cli.output import refuse_unwritable, tell_unmeasured

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mfclip.cli.progress import Bars
    from mfclip.cli.video_copies import Copies
    from mfclip.predict.prediction import Failure, Prediction
    from mfclip.predict.predictor import Predictor
    from mfclip.predict.video_prediction import AnyResult, VideoPrediction
    from mfclip.report.report import Report

MAX_ROWS = 500
"""Rows of the table; the JSON form has no limit."""

MAX_NOTES = 20
"""Reasons to trust a score less that are listed below the table."""

MAX_SKIPPED = 10
"""Files that were left out, by name."""

MANY_FILES = 20
"""A progress bar appears above this number of files."""


def predict(  # noqa: PLR0913, PLR0917 - the options of the command
    paths: Annotated[
        list[str],
        typer.Argument(help="Pictures, videos, folders (searched through and through), globs."),
    ],
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write JSON to a file; - for the standard output."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html|.pdf", help="Write a page or document with the evidence, to file."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="A .safetensors file, a run's folder, a hub id or an exported file; "
            "default: embedded."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Two verdicts only: fake from here upwards, else real."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Take each whole picture as one face.")
    ] = False,
    frames: Annotated[
        int, typer.Option(min=1, help="Frames of a video that are judged, evenly spaced.")
    ] = 32,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Judge every N-th frame instead.")
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.mp4|FOLDER",
            help="Write a copy of the video with boxes and scores; several go to a folder.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces judged together.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    engine: Annotated[
        str, typer.Option(help="torch, onnx, openvino; auto: the one that is done first.")
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16; default: the exported file's, else fp32.")
    ] = None,
) -> None:
    """Judge whether the faces in pictures and videos are forged. Evidence, not proof.

    The score is the model's probability of fake, from 0 to 1. The verdict is real, fake or
    uncertain: the weights say which scores decide nothing, and how often a verdict errs. Every face
    in a picture is found and judged by itself; with --whole the whole picture is one face. In a
    video faces are followed; its score is the mean over the frames of the most suspect one.

    Exit status: 0, everything was judged; 1, some files could not be judged (they are listed, the
    others were judged); 2, nothing could be judged, or the command was wrong.
    """
    from mfclip.predict.faces import WholePicture  # noqa: PLC0415
    from mfclip.predict.predictor import Predictor  # noqa: PLC0415

    finder = WholePicture(check=True) if whole else None
    predictor = Predictor.load(
        weights,
        device=device,
        threshold=threshold,
        finder=finder,
        engine=_quickest_engine(paths, weights) if engine == "auto" else engine,
        precision=precision,
        keep_detector=report is not None,
    )
    tell_unmeasured(predictor)
    status = judge(
        predictor,
        paths,
        json=json,
        report=report,
        batch_size=batch_size,
        frames=frames,
        every=every,
        annotate=annotate,
    )
    raise typer.Exit(status)


def _quickest_engine(names: list[str], weights: str | None) -> str:
    """Choose what answers first: torch starts sooner, the others make up for it on many files."""
    few = len(names) <= MANY_FILES and all(Path(name).is_file() for name in names)
    for_torch = weights is None or weights.endswith(".safetensors")
    return "torch" if few and for_torch else "auto"


def judge(
    predictor: Predictor,
    names: list[str],
    *,
    json: str | None = None,
    report: Path | None = None,
    batch_size: int = 32,
    frames: int = 32,
    every: int | None = None,
    annotate: Path | None = None,
) -> int:
    """Judge files, write what was asked for, show the rest, and return the exit status."""
    from mfclip.cli.progress import Bars  # noqa: PLC0415
    from mfclip.cli.video_copies import Copies  # noqa: PLC0415
    from mfclip.predict.mixed import judge_files  # noqa: PLC0415
    from mfclip.report.results import JsonResults  # noqa: PLC0415
    from mfclip.runtime.whole_file import write_output, write_whole  # noqa: PLC0415

    model = predictor.describe()
    table = ResultTable(model)
    page = _open_report(report, predictor) if report else None
    copies = Copies(annotate, names) if annotate else None
    sinks: list[Callable[[AnyResult], None]] = [table.add]
    with refuse_unwritable(json, report, annotate), ExitStack() as outputs:
        page_file = outputs.enter_context(write_whole(report)) if report else None
        if json is not None:
            file = outputs.enter_context(write_output(None if json == "-" else Path(json)))
            document = JsonResults(file, model)
            sinks.append(document.add)
            outputs.callback(document.close)
        bars = outputs.enter_context(Bars())
        if page:
            sinks.append(partial(_add_to_page, page, predictor))
        if copies:
            sinks.append(partial(_write_copy, copies, bars))
        for result in judge_files(
            predictor, _find(names, bars, copies),
            count=frames, every=every, batch_size=batch_size,
            keep_pixels=page is not None, progress=bars.tell,
        ):  # fmt: skip
            for sink in sinks:
                sink(result)
        if page and page_file and report:
            page.save(page_file.buffer, pdf=report.suffix.lower() == ".pdf")
    table.show(quiet=json == "-")
    return table.status


def _open_report(path: Path, predictor: Predictor) -> Report:
    """Begin a report; the heat map needs the weights, not an exported graph."""
    from mfclip.errors import WeightsError  # noqa: PLC0415
    from mfclip.report.report import Report, load_printer  # noqa: PLC0415
    from mfclip.report.views import draw_heat  # noqa: PLC0415

    if path.suffix.lower() == ".pdf":
        load_printer()  # if it is missing, say so before anything is judged
    try:
        show_heat = partial(draw_heat, predictor.detector)
    except WeightsError:
        return Report(predictor.describe())
    return Report(predictor.describe(), show_heat=show_heat)


def _add_to_page(page: Report, predictor: Predictor, result: AnyResult) -> None:
    from mfclip.predict.prediction import Skipped  # noqa: PLC0415
    from mfclip.predict.video import look_closer  # noqa: PLC0415
    from mfclip.predict.video_prediction import VideoPrediction  # noqa: PLC0415

    if isinstance(result, VideoPrediction):
        page.add_video(result, look_closer(predictor, result, result.moments))
    elif not isinstance(result, Skipped):
        page.add(result)


def _write_copy(copies: Copies, bars: Bars, result: AnyResult) -> None:
    from mfclip.errors import InputError  # noqa: PLC0415
    from mfclip.predict.video_prediction import VideoPrediction  # noqa: PLC0415
    from mfclip.report.annotate import annotate  # noqa: PLC0415

    if not isinstance(result, VideoPrediction):
        return
    try:
        annotate(result, copies.place(Path(result.path)), progress=bars.tell)
    except InputError as error:
        typer.echo(f"no copy: {_printable(str(error))}", err=True)


class ResultTable:
    """Collects what is shown on the terminal.

    Args:
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.model = model
        self.num_judged = 0
        self.counts = {"fake": 0, "uncertain": 0, "real": 0}
        self.video_counts = dict(self.counts)
        self._shown: list[Prediction] = []
        self._videos: list[VideoPrediction] = []
        self._failures: list[Failure] = []
        self._skipped: list[str] = []
        self.num_skipped = 0

    def add(self, result: AnyResult) -> None:
        """Take in one result."""
        from mfclip.predict.prediction import Failure, Skipped  # noqa: PLC0415
        from mfclip.predict.video_prediction import VideoPrediction  # noqa: PLC0415

        if isinstance(result, Failure):
            self._failures.append(result)
        elif isinstance(result, Skipped):
            self.num_skipped += 1
            self._skipped += [result.path][: MAX_SKIPPED - len(self._skipped)]
        elif isinstance(result, VideoPrediction):
            self.video_counts[result.verdict] += 1
            if len(self._videos) < MAX_ROWS:  # a row needs neither times of frames nor pixels
                self._videos.append(replace(result, contents=None))
        else:
            self.num_judged += 1
            self.counts[result.verdict] += 1
            if len(self._shown) < MAX_ROWS:
                self._shown.append(replace(result, pixels=None, preview=None))

    @property
    def status(self) -> int:
        """Exit status of the command."""
        if not self.num_judged and not self._videos:
            return 2
        return 1 if self._failures else 0

    def show(self, *, quiet: bool = False) -> None:
        """Print the table (unless quiet) on the standard output, failures on the other."""
        from rich.console import Console  # noqa: PLC0415

        if (self._shown or self._videos) and not quiet:
            self._show_tables(Console())
        for failure in self._failures[:MAX_ROWS]:
            name = _printable(failure.path or "array")
            typer.echo(f"not judged: {name}: {_printable(failure.error)}", err=True)
        if len(self._failures) > MAX_ROWS:
            more = len(self._failures) - MAX_ROWS
            typer.echo(f"not judged: {more} more; --json lists them all", err=True)
        if self.num_skipped:
            typer.echo(self._tell_skipped(), err=True)

    def _tell_skipped(self) -> str:
        listed = ", ".join(map(_printable, self._skipped))
        more = self.num_skipped - len(self._skipped)
        rest = f" and {more} more; --json lists them all" if more else ""
        files = "file" if self.num_skipped == 1 else "files"
        return f"left out, neither image nor video: {self.num_skipped} {files}: {listed}{rest}"

    def _show_tables(self, console: Console) -> None:
        from mfclip.cli.video_table import make_video_table  # noqa: PLC0415
        from mfclip.report.wording import Words  # noqa: PLC0415

        words = Words()
        shown: list[Prediction | VideoPrediction] = [*self._shown, *self._videos]
        if not console.is_terminal:  # a file or a pipe: keep each result on one line
            console.width = 40 + max(90, *(80 + len(p.path or "") for p in shown))
        if self._shown:
            console.print(_table(self._shown, self.model))
        if self._videos:
            console.print(make_video_table(self._videos, console))
        self._show_notes(console)
        for counts, rows, name in (
            (self.counts, self._shown, "face"),
            (self.video_counts, self._videos, "video"),
        ):
            _show_counts(console, counts, len(rows), name)
        rule = words.bands(shown[0].bands, origin=True)
        console.print(f"{rule} {words('page.evidence')}", highlight=False)
        if any(_indication(one, self.model) for one in self._shown):
            told = " ".join((words("kinds.remark"), *words.kind_hits(self.model)))
            console.print(told, style="dim", highlight=False, markup=False)
        for heading, key in (("Limits", "limits"), ("Licence", "licence")):
            if text := self.model.get(key):
                line = f"{heading} of the weights: {_printable(str(text))}"
                console.print(line, style="dim", highlight=False, markup=False)

    def _show_notes(self, console: Console) -> None:
        notes = [(_name(p), "; ".join(p.warnings)) for p in self._shown if p.warnings]
        notes += [(_printable(v.path), "; ".join(v.warnings)) for v in self._videos if v.warnings]
        for name, note in notes[:MAX_NOTES]:
            console.print(f"note: {name}: {note}", style="yellow", highlight=False, markup=False)
        if len(notes) > MAX_NOTES:
            console.print(f"and {len(notes) - MAX_NOTES} more notes; --json gives all")


def _show_counts(console: Console, counts: Mapping[str, int], num_rows: int, name: str) -> None:
    total = sum(counts.values())
    if not total:
        return
    more = f" The table holds the first {MAX_ROWS}; --json gives all." if total > num_rows else ""
    called = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    console.print(f"{total} {name}{'s' * (total > 1)} judged: {called}.{more}", highlight=False)


def _table(predictions: list[Prediction], model: Mapping[str, Any]) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("picture", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("kind, as an indication", overflow="fold")
    table.add_column("richest patch", no_wrap=True)
    for prediction in predictions:
        patch = prediction.patch
        colour = {"fake": "red", "uncertain": "yellow"}.get(prediction.verdict, "green")
        table.add_row(
            Text(_name(prediction)),
            f"{prediction.score:.3f}",
            Text(prediction.verdict, style=colour),
            Text(_indication(prediction, model)),
            Text(f"at {patch.left},{patch.top}" if patch else ""),
        )
    return table


def _name(prediction: Prediction) -> str:
    name = _printable(prediction.path or "array")
    face = prediction.face
    return f"{name} (face at {face.left},{face.top})" if face else name


def _indication(prediction: Prediction, model: Mapping[str, Any]) -> str:
    """Name the most similar kind of forgery on each level that is worth naming."""
    from mfclip.report.wording import Words, likely_kinds  # noqa: PLC0415

    words, found = Words(), likely_kinds(prediction, model)
    kinds = [
        next((kind for kind in ranked if kind.name != "real"), None) for ranked in found.values()
    ]
    return ", ".join(f"{words.kind(k.name)} {words.percent(k.probability)}" for k in kinds if k)


def _printable(text: str) -> str:
    from mfclip.report.wording import printable  # noqa: PLC0415

    return printable(text)


def _find(names: list[str], bars: Bars, copies: Copies | None) -> Iterator[Path | Failure]:
    """Find the files, but no copy that was just written; with a bar where there are many."""
    from mfclip.predict.files import find_files  # noqa: PLC0415

    total = sum(1 for _ in find_files(names)) if bars.visible else 0
    found = find_files(names)
    if total > MANY_FILES:
        found = bars.count(found, "judging", total)
    for entry in found:
        if not (copies and isinstance(entry, Path) and copies.has_written(entry)):
            yield entry
