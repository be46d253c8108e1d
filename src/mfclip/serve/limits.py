"""What one server takes on at most."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mfclip.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server; all above 0.

    Attributes:
        max_bytes: size of an upload.
        max_pixels: width x height of a picture or of a video's frame.
        max_video_seconds: length of a video.
        max_frames: frames of a video that are judged, evenly spaced.
        queue: uploads at the same time; likewise pictures that wait or are judged.
        jobs: jobs waiting or judged.
        upload_seconds: time of one upload.
        silence_seconds: how long a sender may send nothing or next to nothing, and a connection be
            open without a request.
        request_seconds: time of a picture, once uploaded.
        job_seconds: time of a job, once begun.
        keep_seconds: how long a finished job is kept.

    Raises:
        ConfigError: a bound is not above 0.
    """

    max_bytes: int = 200 * 2**20
    max_pixels: int = 50_000_000
    max_video_seconds: float = 600.0
    max_frames: int = 64
    queue: int = 32
    jobs: int = 8
    upload_seconds: float = 120.0
    silence_seconds: float = 10.0
    request_seconds: float = 60.0
    job_seconds: float = 900.0
    keep_seconds: float = 900.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ConfigError(f"expected {field.name} above 0, but got {value}")
