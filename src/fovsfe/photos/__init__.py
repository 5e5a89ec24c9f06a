"""Photos, from a folder to a batch: finding, decoding, auditing, splitting, augmenting, loading."""
