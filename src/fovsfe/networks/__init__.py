"""Backbones with a head, and which of their layers learn at a stage."""
