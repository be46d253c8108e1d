"""``mfclip predict``: judge images and videos on the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from mfclip.cli.options import Device, Precision, Threshold, Weights
from mfclip.cli.output import claim_file, refuse_unwritable, tell_unmeasured
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.cli.progress import Bars
    from mfclip.cli.video_copies import Copies
    from mfclip.predict.prediction import Failure
    from mfclip.predict.predictor import Predictor
    from mfclip.predict.video_prediction import AnyResult
    from mfclip.report.report import Report
    from mfclip.report.results import JsonResults, ResultRows

REPORT_ENDINGS = (".html", ".htm", ".pdf")
OUTPUT_ENDINGS = {".jsonl", ".csv", ".json", *REPORT_ENDINGS}

MANY_FILES = 20
"""A progress bar appears above this number of files."""


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS...", help="Images, videos, folders (searched recursively), globs."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.jsonl|.csv|.json",
            help="Write the results to a file. JSON Lines and CSV grow as files are judged, so "
            "that nothing is lost, and can be resumed.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Judge only what --out does not hold yet.")
    ] = False,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE.json|-", help="Write JSON; - for the standard output."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html|.pdf", help="Write a page or document with the evidence."),
    ] = None,
    weights: Weights = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What --weights must be, e.g. recce; others are refused. What its authors "
            "published is imported once: mfclip import.",
        ),
    ] = None,
    threshold: Threshold = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Take each whole image as one face.")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video, evenly spaced.")] = 32,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Judge every N-th frame instead.")
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.mp4|FOLDER",
            help="Write a copy of the video with boxes and scores; several go to a folder.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces judged together.")] = 32,
    device: Device = "auto",
    engine: Annotated[
        str,
        typer.Option(help="torch (the reference), onnx, openvino, or auto: the first to be done."),
    ] = "auto",
    precision: Precision = None,
) -> None:
    """Judge whether the faces in images and videos are forged. Evidence, not proof.

    The score is the model's probability of fake, from 0 to 1. The verdict is real, fake or
    uncertain: the weights say which scores decide nothing, and how often a verdict errs. Every face
    in an image is found and judged by itself; with --whole the whole image is one face. In a
    video faces are followed; its score is the mean over the frames of the most suspect one.

    Exit status: 0, everything was judged; 1, some files could not be judged (they are listed, the
    others were judged); 2, nothing could be judged, or the command was wrong; 130 or 143, it was
    interrupted.
    """
    from mfclip.predict.faces import WholePicture  # noqa: PLC0415
    from mfclip.predict.predictor import Predictor  # noqa: PLC0415

    outputs = Outputs.claim(paths, out=out, json=json, report=report, resume=resume)
    if detector is not None:
        _check_detector(weights, detector)
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
        outputs,
        batch_size=batch_size,
        frames=frames,
        every=every,
        annotate=annotate,
    )
    raise typer.Exit(status)


def _check_detector(weights: str | None, name: str) -> None:
    from mfclip.engines.exported import is_exported  # noqa: PLC0415
    from mfclip.published import check_detector  # noqa: PLC0415

    if weights is None or is_exported(weights):
        what = "the embedded ones" if weights is None else f"the graph {weights}"
        raise ConfigError(f"--detector {name} checks a file of weights, and not {what}")
    check_detector(weights, name)


def _quickest_engine(names: list[str], weights: str | None) -> str:
    """Choose what answers first: torch starts sooner, the others make up for it on many files."""
    few = len(names) <= MANY_FILES and all(Path(name).is_file() for name in names)
    for_torch = weights is None or weights.endswith(".safetensors")
    return "torch" if few and for_torch else "auto"


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is written, and where; settled before anything is judged.

    Attributes:
        rows: JSON Lines or CSV, which grow as files are judged.
        document: JSON, which is there once all is judged.
        to_stdout: the same, to the standard output.
        report: page or document with the evidence.
        resume: go on with `rows`.
    """

    rows: Path | None = None
    document: Path | None = None
    to_stdout: bool = False
    report: Path | None = None
    resume: bool = False

    @classmethod
    def claim(
        cls,
        names: list[str],
        *,
        out: Path | None,
        json: str | None,
        report: Path | None,
        resume: bool,
    ) -> Outputs:
        """Check the options against each other, and that their files may be written.

        Raises:
            ConfigError: they contradict each other, or one is no place for its output.
        """
        from mfclip.report.results import ROW_ENDINGS  # noqa: PLC0415

        document = None if json in {None, "-"} else Path(str(json))
        if out is not None:
            claim_file("--out", out, [*ROW_ENDINGS, ".json"], inputs=_inputs(names))
        if document is not None:
            claim_file("--json", document, [".json"], inputs=_inputs(names))
        if report is not None:
            claim_file("--report", report, REPORT_ENDINGS, inputs=_inputs(names))
        rows = out if out is not None and out.suffix.lower() in ROW_ENDINGS else None
        if out is not None and rows is None:
            if json is not None:
                raise ConfigError(f"--out {out} and --json {json} both ask for JSON; use one")
            document = out
        if resume and (rows is None or json is not None or report is not None):
            raise ConfigError(
                "--resume goes on with --out FILE.jsonl or FILE.csv, and --json and --report would "
                "hold only what was left; give it with --out alone"
            )
        return cls(rows, document, json == "-", report, resume)

    @property
    def paths(self) -> list[Path]:
        """The files that are written."""
        return [path for path in (self.rows, self.document, self.report) if path is not None]


def judge(
    predictor: Predictor,
    names: list[str],
    outputs: Outputs | None = None,
    *,
    batch_size: int = 32,
    frames: int = 32,
    every: int | None = None,
    annotate: Path | None = None,
) -> int:
    """Judge files, write what was asked for, show the rest, and return the exit status."""
    from mfclip.cli.interrupt import Interrupts  # noqa: PLC0415
    from mfclip.cli.progress import Bars  # noqa: PLC0415
    from mfclip.cli.result_table import ResultTable  # noqa: PLC0415
    from mfclip.cli.video_copies import Copies  # noqa: PLC0415
    from mfclip.predict.mixed import judge_files  # noqa: PLC0415
    from mfclip.report.results import ResultRows, Run  # noqa: PLC0415

    outputs = outputs or Outputs()
    table = ResultTable(predictor.describe())
    copies = Copies(annotate, names) if annotate else None
    rows: ResultRows | None = None
    sinks: list[Callable[[AnyResult], None]] = [table.add]
    standard = "-" if outputs.to_stdout else None
    interrupts = Interrupts()
    try:
        with (
            refuse_unwritable(*outputs.paths, standard, annotate),
            interrupts,
            ExitStack() as opened,
        ):
            if outputs.rows:
                run = Run(table.model, {"frames": frames, "every": every})
                rows = opened.enter_context(
                    closing(ResultRows(outputs.rows, run, resume=outputs.resume))
                )
                sinks.append(rows.add)
            if outputs.document or outputs.to_stdout:
                document = opened.enter_context(_open_json(outputs.document, table.model))
                sinks.append(document.add)
            if outputs.report:
                page = opened.enter_context(_open_page(outputs.report, predictor))
                sinks.append(partial(_add_to_page, page, predictor))
            bars = opened.enter_context(Bars())
            for result in judge_files(
                predictor, _find(names, bars, outputs, rows, copies),
                count=frames, every=every, batch_size=batch_size,
                keep_pixels=outputs.report is not None, progress=bars.tell,
            ):  # fmt: skip
                with interrupts.whole():
                    for sink in sinks:
                        sink(result)
                if copies:
                    _write_copy(copies, bars, result)
            if rows:
                rows.flush()
    except KeyboardInterrupt:
        table.show(quiet=outputs.to_stdout)
        typer.echo(f"interrupted; {_how_to_go_on(outputs)}", err=True)
        return interrupts.status
    table.show(quiet=outputs.to_stdout)
    if rows is None or not rows.done:
        return table.status
    before = f"{len(rows.done)} files were looked at before"
    unjudged = f", {rows.num_errors} of them not judged" if rows.num_errors else ""
    typer.echo(f"{before}{unjudged}; {outputs.rows} holds all results", err=True)
    return int(bool(rows.num_errors or table.num_failures))


def _how_to_go_on(outputs: Outputs) -> str:
    if outputs.rows:
        return f"{outputs.rows} holds what was judged; the same command with --resume goes on"
    kept = " and ".join(str(_aside(path)) for path in outputs.paths)
    where = f"what was judged is in {kept}" if kept else "the table shows what was judged"
    return f"{where}; with --out FILE.jsonl a run can be resumed"


def _aside(path: Path) -> Path:
    """Name an incomplete document, which never takes the place of a complete one."""
    return path.with_name(f"{path.stem}.interrupted{path.suffix}")


def _keep_aside(file: TextIO, path: Path) -> None:
    """Copy what was written so far, unless it went to a pipe or device."""
    from mfclip.runtime.whole_file import partial_file  # noqa: PLC0415

    file.flush()
    if path.is_file() or not path.exists():
        with partial_file(_aside(path)) as copy:
            shutil.copyfile(file.name, copy)


@contextmanager
def _open_json(path: Path | None, model: Mapping[str, Any]) -> Iterator[JsonResults]:
    """Open the JSON document; None is the standard output, which gets all or nothing."""
    from mfclip.report.results import JsonResults  # noqa: PLC0415
    from mfclip.runtime.whole_file import write_output  # noqa: PLC0415

    with write_output(path) as file:
        try:
            with closing(JsonResults(file, model)) as document:
                yield document
        except KeyboardInterrupt:
            if path is not None:
                _keep_aside(file, path)
            raise


@contextmanager
def _open_page(path: Path, predictor: Predictor) -> Iterator[Report]:
    """Open the report; it is written when all is judged, or when that is interrupted."""
    from mfclip.runtime.whole_file import write_whole  # noqa: PLC0415

    page, is_pdf = _open_report(path, predictor), path.suffix.lower() == ".pdf"
    with write_whole(path) as file:
        try:
            yield page
        except KeyboardInterrupt:
            page.save(file.buffer, pdf=is_pdf)
            _keep_aside(file, path)
            raise
        page.save(file.buffer, pdf=is_pdf)


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
    from mfclip.report.wording import printable  # noqa: PLC0415

    if not isinstance(result, VideoPrediction):
        return
    try:
        annotate(result, copies.place(Path(result.path)), progress=bars.tell)
    except InputError as error:
        typer.echo(f"no copy: {printable(str(error))}", err=True)


def _inputs(names: list[str]) -> Iterator[Path]:
    """Yield what is judged, but no results of an earlier run that lie in a folder of images."""
    from mfclip.predict.face_reader import FoundFile  # noqa: PLC0415
    from mfclip.predict.files import find_files  # noqa: PLC0415

    for path in find_files(names):
        if not isinstance(path, Path):
            continue
        if isinstance(path, FoundFile) and path.suffix.lower() in OUTPUT_ENDINGS:
            with suppress(OSError):  # a pipe is not opened: nobody may ever write to it
                if path.is_file() and _has_media(path):
                    yield path
            continue
        yield path


def _has_media(path: Path) -> bool:
    from mfclip.media.sniff import HEAD, sniff  # noqa: PLC0415

    with path.open("rb") as file:
        return sniff(file.read(HEAD)) is not None


def _find(
    names: list[str],
    bars: Bars,
    outputs: Outputs,
    rows: ResultRows | None,
    copies: Copies | None,
) -> Iterator[Path | Failure]:
    """Find the files that are left to judge; with a bar where there are many.

    Passed over are those judged before, one that is named twice in a row (its rows could not be
    told apart), and what this command itself is writing in a folder that is still searched.
    """
    from mfclip.predict.files import find_files  # noqa: PLC0415

    done = rows.done if rows else set()
    total = sum(1 for _ in find_files(names)) - len(done) if bars.visible else 0
    left: Iterator[Path | Failure]
    left = (entry for entry in find_files(names) if _name(entry) not in done)
    if total > MANY_FILES:
        left = bars.count(left, "judging", total)
    own = {path.absolute() for path in outputs.paths}
    before = None
    for entry in left:
        name = _name(entry)
        if rows and name == before:
            continue
        before = name
        if isinstance(entry, Path) and (
            entry.absolute() in own or (copies and copies.has_written(entry))
        ):
            continue
        yield entry


def _name(entry: Path | Failure) -> str | None:
    return str(entry) if isinstance(entry, Path) else entry.path
