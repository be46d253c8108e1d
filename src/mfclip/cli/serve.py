"""``mfclip serve``: the web page and the REST interface."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.output import tell_unmeasured

if TYPE_CHECKING:
    from mfclip.serve.guard import Access

WHERE = "Where it listens"
WHAT = "What judges"
BOUNDS = "Limits"


def serve(
    host: Annotated[
        str, typer.Option(help="Address; 0.0.0.0 opens it to the network.", rich_help_panel=WHERE)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, rich_help_panel=WHERE)] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MFCLIP_API_KEY",
            help="Demand this key; better set in the environment, where no process list shows it.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name by which it is reached; may be repeated.", rich_help_panel=WHERE
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="A .safetensors file, a run's folder or a hub id; default: embedded.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Two verdicts only: fake from here upwards, else real.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=WHAT)
    ] = "auto",
    engine: Annotated[
        str,
        typer.Option(help="auto (fastest here), torch, onnx or openvino.", rich_help_panel=WHAT),
    ] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16; default: the weights'.", rich_help_panel=WHAT)
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Faces judged together, at most.", rich_help_panel=WHAT)
    ] = 32,
    max_megabytes: Annotated[
        float, typer.Option(help="Size of an upload.", rich_help_panel=BOUNDS)
    ] = 200,
    max_megapixels: Annotated[
        float, typer.Option(help="Of a picture or a video's frame.", rich_help_panel=BOUNDS)
    ] = 50,
    max_video_seconds: Annotated[
        float, typer.Option(help="Length of a video.", rich_help_panel=BOUNDS)
    ] = 600,
    max_frames: Annotated[
        int, typer.Option(help="Frames judged of a video.", rich_help_panel=BOUNDS)
    ] = 64,
    queue: Annotated[
        int,
        typer.Option(
            help="Uploads at the same time; also pictures waiting or judged.",
            rich_help_panel=BOUNDS,
        ),
    ] = 32,
    jobs: Annotated[int, typer.Option(help="Jobs waiting or judged.", rich_help_panel=BOUNDS)] = 8,
    upload_seconds: Annotated[
        float, typer.Option(help="Time of an upload.", rich_help_panel=BOUNDS)
    ] = 120,
    silence_seconds: Annotated[
        float,
        typer.Option(
            help="How long a connection may send nothing or next to nothing.",
            rich_help_panel=BOUNDS,
        ),
    ] = 10,
    request_seconds: Annotated[
        float, typer.Option(help="Time of a picture, once received.", rich_help_panel=BOUNDS)
    ] = 60,
    job_seconds: Annotated[
        float, typer.Option(help="Time of a job, once begun.", rich_help_panel=BOUNDS)
    ] = 900,
    keep_seconds: Annotated[
        float, typer.Option(help="How long a finished job is kept.", rich_help_panel=BOUNDS)
    ] = 900,
) -> None:
    """Judge pictures and videos in a web page, and for other programs (REST).

    Open http://127.0.0.1:8000 once it runs. Nothing leaves the machine, and only the machine itself
    can reach it unless --host says otherwise. docs/serve.md describes the interface.
    """
    from mfclip.errors import require  # noqa: PLC0415

    for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "av"):
        require(package, extra="serve")
    from mfclip.predict.predictor import Predictor  # noqa: PLC0415
    from mfclip.runtime.memory import share_heaps  # noqa: PLC0415
    from mfclip.serve.app import create_app  # noqa: PLC0415
    from mfclip.serve.limits import Limits  # noqa: PLC0415
    from mfclip.serve.server import Server, bind  # noqa: PLC0415
    from mfclip.serve.service import Service  # noqa: PLC0415

    share_heaps()  # many threads: each with heaps of its own would keep what it once needed
    limits = Limits(
        max_bytes=int(max_megabytes * 2**20),
        max_pixels=int(max_megapixels * 1_000_000),
        max_video_seconds=max_video_seconds,
        max_frames=max_frames,
        queue=queue,
        jobs=jobs,
        upload_seconds=upload_seconds,
        silence_seconds=silence_seconds,
        request_seconds=request_seconds,
        job_seconds=job_seconds,
        keep_seconds=keep_seconds,
    )
    access = find_access(host, api_key, allow_host or [])
    sockets = bind(host, port)
    predictor = Predictor.load(
        weights, device=device, threshold=threshold, engine=engine, precision=precision
    )
    tell_unmeasured(predictor)
    service = Service(predictor, limits, batch_size=batch_size)
    # the processes start while the server does, which does not wait for them
    threading.Thread(target=service.workers.start, daemon=True).start()
    shown = f"[{host}]" if ":" in host else host
    told = f"mfclip listens on http://{shown}:{port} (end with Ctrl+C)"
    server = Server(create_app(service, access), service, lambda: typer.echo(told, err=True))
    server.run(sockets)


def find_access(host: str, key: str | None, names: list[str]) -> Access:
    """Say who may ask: by which names, and with which key; warn of an open door.

    Args:
        host: address on which the server listens.
        key: demanded of everybody; None or empty for none.
        names: further names by which the server is known.
    """
    from mfclip.serve.guard import LOOPBACK, Access  # noqa: PLC0415

    if host in LOOPBACK:
        return Access(key or None, LOOPBACK | {name.lower() for name in names})
    if not key:
        warning = (
            f"warning: {host} can be reached by others, and no key is set; set MFCLIP_API_KEY to "
            "demand one"
        )
        typer.echo(warning, err=True)
    return Access(key or None, {name.lower() for name in names} | LOOPBACK if names else None)
