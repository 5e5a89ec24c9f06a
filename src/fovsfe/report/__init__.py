"""Seeing a run: its report, and the photos behind the figures."""
