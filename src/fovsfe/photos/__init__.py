"""What comes in: finding, decoding, auditing, splitting, augmenting photos."""
