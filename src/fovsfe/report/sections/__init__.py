"""The sections of the report: each function returns what the template needs for one section."""

from typing import Any

Section = dict[str, Any]
"""What the template gets for a section: plain values, charts and pictures."""
