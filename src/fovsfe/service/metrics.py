"""What the service counts, for Prometheus."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""the environment variable with the folder where several workers count together; set before this import"""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PHASES = ("read", "queue", "decode", "infer")


class ServiceMetrics:
    """The counters of one application; with several workers, `text` adds up what all of them counted."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: CollectorRegistry | None = self._registry
        if SHARED in os.environ:  # the files are read, not the objects of this worker
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
            own = None
        else:
            ProcessCollector(registry=own)
        self.requests = Counter(
            "fovsfe_requests", "Requests answered", ("route", "method", "status"), registry=own
        )
        self.request_seconds = Histogram(
            "fovsfe_request_seconds",
            "From a request's header to the end of its answer",
            ("route",),
            buckets=SECONDS,
            registry=own,
        )
        phases = Histogram(
            "fovsfe_phase_seconds",
            "Reading an upload, waiting in the queue, decoding a photo, inferring a batch",
            ("phase",),
            buckets=SECONDS,
            registry=own,
        )
        self.read, self.queue, self.decode, self.infer = (phases.labels(phase) for phase in PHASES)
        self.batch = Histogram(
            "fovsfe_batch_photos",
            "Photos predicted at one time",
            buckets=(1, 2, 3, 4, 8),
            registry=own,
        )
        self.waiting = Gauge(
            "fovsfe_queue_photos", "Photos in the queue", multiprocess_mode="livesum", registry=own
        )
        self.refusals = Counter("fovsfe_refusals", "Problems answered", ("reason",), registry=own)
        self.answers = Counter("fovsfe_answers", "Photos by their likeliest label", ("label",), registry=own)
        self.unknown = Counter(
            "fovsfe_unknown_answers", "Photos that are probably of none of the labels", registry=own
        )

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
