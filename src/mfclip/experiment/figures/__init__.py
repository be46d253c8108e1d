"""Figures of what a detector sees, one file a figure."""
