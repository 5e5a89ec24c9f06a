"""The metrics of the service, for Prometheus."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""the environment variable for the folder that several workers share; set it before importing this"""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PHASES = ("read", "queue", "decode", "infer")


class ServiceMetrics:
    """The metrics of one application. With several workers, `text` adds up those of all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: CollectorRegistry | None = self.registry
        if SHARED_FOLDER in os.environ:  # the files of all workers are read, not the objects of this one
            MultiProcessCollector(self.registry)  # type: ignore[no-untyped-call]
            own = None
        else:
            ProcessCollector(registry=own)
        self.requests = Counter(
            "fovsfe_requests", "Requests answered", ("route", "method", "status"), registry=own
        )
        self.request_seconds = Histogram(
            "fovsfe_request_seconds",
            "From the header of a request to the end of its response",
            ("route",),
            buckets=SECONDS,
            registry=own,
        )
        phases = Histogram(
            "fovsfe_phase_seconds",
            "Receiving an upload, waiting in the queue, decoding a photo, inferring a batch",
            ("phase",),
            buckets=SECONDS,
            registry=own,
        )
        self.read, self.queue, self.decode, self.infer = (phases.labels(phase) for phase in PHASES)
        self.batch = Histogram(
            "fovsfe_batch_photos",
            "Photos in a batch",
            buckets=(1, 2, 3, 4, 8),
            registry=own,
        )
        self.waiting = Gauge(
            "fovsfe_queue_photos", "Photos in the queue", multiprocess_mode="livesum", registry=own
        )
        self.problems = Counter(
            "fovsfe_problems",
            "Problems that requests or photos were answered with",
            ("reason",),
            registry=own,
        )
        self.answers = Counter(
            "fovsfe_answers", "Photos by their most likely label", ("label",), registry=own
        )
        self.unknown = Counter(
            "fovsfe_unknown_answers", "Photos that probably show none of the labels", registry=own
        )
        self.recent_labels = Gauge(
            "fovsfe_recent_labels",
            "Recent answers by label",
            ("label",),
            multiprocess_mode="livesum",
            registry=own,
        )
        self.recent_confidence = Gauge(
            "fovsfe_recent_confidence",
            "Recent answers that name a label by confidence, in the bins of the bundle's metrics",
            ("bin",),
            multiprocess_mode="livesum",
            registry=own,
        )
        self.recent_confidence_sum = Gauge(
            "fovsfe_recent_confidence_sum",
            "Sum of the confidence of recent answers that name a label",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.recent_unknown = Gauge(
            "fovsfe_recent_unknown",
            "Recent answers: none of these",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.dropped_log_lines = Counter(
            "fovsfe_dropped_log_lines", "Lines of the log that nobody read in time", registry=own
        )

    def text(self) -> bytes:
        """Returns all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
