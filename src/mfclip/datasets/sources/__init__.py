"""One file a data set: ``scan(root, options)`` turns what its authors hand out into a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mfclip.datasets.sources.celebdf import CELEBDF_PP, CELEBDF_V1, CELEBDF_V2
from mfclip.datasets.sources.contract import ScanOptions, ScanResult, Source, count_items
from mfclip.datasets.sources.deeperforensics import DEEPERFORENSICS
from mfclip.datasets.sources.deepfakebench import DEEPFAKEBENCH
from mfclip.datasets.sources.df40 import DF40
from mfclip.datasets.sources.dfdc import DFDC
from mfclip.datasets.sources.dfdcp import DFDCP
from mfclip.datasets.sources.faceforensics import FACEFORENSICS
from mfclip.datasets.sources.folders import FOLDERS
from mfclip.datasets.sources.generator_folders import (
    DEEPFAKEFACE,
    DIFF,
    DIFFUSIONFACE,
    GENERATOR_FOLDERS,
)
from mfclip.datasets.sources.genface import GENFACE
from mfclip.datasets.sources.huggingface import HUGGINGFACE
from mfclip.datasets.sources.table import TABLE

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "genface": GENFACE,
        "faceforensics": FACEFORENSICS,
        "celebdf_v1": CELEBDF_V1,
        "celebdf_v2": CELEBDF_V2,
        "celebdf_pp": CELEBDF_PP,
        "dfdc": DFDC,
        "dfdcp": DFDCP,
        "deeperforensics": DEEPERFORENSICS,
        "df40": DF40,
        "deepfakebench": DEEPFAKEBENCH,
        "diff": DIFF,
        "diffusionface": DIFFUSIONFACE,
        "deepfakeface": DEEPFAKEFACE,
        "generator_folders": GENERATOR_FOLDERS,
        "folders": FOLDERS,
        "table": TABLE,
        "huggingface": HUGGINGFACE,
    }
)
"""Name on the command line -> source."""

__all__ = ["SOURCES", "ScanOptions", "ScanResult", "Source", "count_items"]
