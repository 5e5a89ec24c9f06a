"""Predictions of many members made one: blends, calibration, metrics, pseudo-labels, submissions."""
