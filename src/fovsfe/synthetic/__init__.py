"""A drawn data set of ten car models, for demonstrations and tests: it needs no photos and no network."""
