"""What the parts of the hub refuse with, where whoever asked shall read why."""

from __future__ import annotations


class DomainError(Exception):
    """What was asked of the hub cannot be done; the text says why, and what helps, and tells no secret."""
