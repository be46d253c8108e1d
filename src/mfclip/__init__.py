"""Tell a real face from a forged one."""

__version__ = "0.1.0"
