"""Weights to files for one engine: written, checked against PyTorch, measured."""

from mfclip.export.export import ExportReport, export_weights

__all__ = ["ExportReport", "export_weights"]
