"""Ford vs Ferrari: from a folder of photos to an honest, stacked classifier."""

__version__ = "0.1.0"
