"""Many members, one answer: metrics, blends, calibration, pseudo-labels."""
