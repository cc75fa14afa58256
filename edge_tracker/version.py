"""The package's version, where building and running it both read it."""

from __future__ import annotations

__version__ = "0.1.0"
