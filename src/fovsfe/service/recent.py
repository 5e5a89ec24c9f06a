"""What the service remembers of its last answers: the label and how sure it was, nothing of the photo."""

import os
import threading
from collections import deque
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from fovsfe.bundle.format import Bundle
from fovsfe.bundle.predictor import Prediction
from fovsfe.ensemble.drift import Answers, still_as_good
from fovsfe.ensemble.headline import answer_bin
from fovsfe.service.metrics import SHARED_FOLDER, ServiceMetrics

WINDOW = 1000  # answers, of all workers together


class RecentAnswers(Collector):
    """The last answers of this worker, as gauges that add up to those of all workers."""

    def __init__(self, bundle: Bundle, workers: int, metrics: ServiceMetrics) -> None:
        """`workers`: how many share WINDOW."""
        self._bundle, self._metrics = bundle, metrics
        self._window: deque[tuple[str, str, float] | None] = deque()
        self._length = max(WINDOW // workers, 1)
        self._lock = threading.Lock()
        metrics.registry.register(self)

    def add(self, prediction: Prediction) -> None:
        """Counts an answer, and forgets the oldest one; called in several threads."""
        label = int(prediction.probabilities.argmax())
        confidence = float(prediction.probabilities[label])
        answer = None
        if prediction.known:
            name = self._bundle.class_names[label]
            answer = name, str(answer_bin(self._bundle.metrics, confidence)), confidence
        with self._lock:
            self._window.append(answer)
            self._count(answer, 1)
            if len(self._window) > self._length:
                self._count(self._window.popleft(), -1)

    def counts(self) -> Answers:
        """Returns how many of the last answers of all workers there are of each kind."""
        samples, bins = self._samples(), self._bundle.metrics.get("bins", ())
        counts = {name: round(value) for name, value in samples.items()}
        return Answers(
            bins=[counts.get(("fovsfe_recent_confidence", str(i)), 0) for i in range(max(len(bins), 1))],
            labels=[counts.get(("fovsfe_recent_labels", name), 0) for name in self._bundle.class_names],
            unknown=counts.get(("fovsfe_recent_unknown", ""), 0),
            confidence=samples.get(("fovsfe_recent_confidence_sum", ""), 0.0),
        )

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: the registry need not collect to learn the names."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yields what is derived from the counts, for Prometheus."""
        found = still_as_good(self._bundle.metrics, self.counts())
        yield GaugeMetricFamily(
            "fovsfe_unknown_share", "Share of recent answers: none of these", found.unknown
        )
        missing = GaugeMetricFamily(
            "fovsfe_expected_accuracy_missing", "Why no accuracy can be expected", labels=("why",)
        )
        if found.silent:
            missing.add_metric([found.silent], 1)
        yield missing
        low, high = found.interval or (None, None)
        for name, words, value in (
            ("expected_accuracy", "Expected accuracy of recent answers that name a label", found.accuracy),
            ("expected_accuracy_low", "The lower end of its 95% interval", low),
            ("expected_accuracy_high", "The upper end of its 95% interval", high),
            ("measured_accuracy", "Accuracy of held-out answers that name a label", found.measured),
        ):
            yield GaugeMetricFamily(f"fovsfe_{name}", words, value)
        psi = GaugeMetricFamily(
            "fovsfe_drift_psi", "Population stability index against held-out photos", labels=("of",)
        )
        p_value = GaugeMetricFamily(
            "fovsfe_drift_p_value", "How often chance alone makes such a drift", labels=("of",)
        )
        for name, drift in (("labels", found.labels), ("confidence", found.confidence)):
            if drift is not None:
                psi.add_metric([name], drift.psi)
                p_value.add_metric([name], drift.p_value)
        yield psi
        yield p_value

    def _count(self, answer: tuple[str, str, float] | None, change: int) -> None:
        if answer is None:
            self._metrics.recent_unknown.inc(change)
        else:
            label, position, confidence = answer
            self._metrics.recent_labels.labels(label).inc(change)
            self._metrics.recent_confidence.labels(position).inc(change)
            self._metrics.recent_confidence_sum.inc(change * confidence)

    def _samples(self) -> dict[tuple[str, str], float]:
        """Returns the gauges of all workers, by name and by label or bin."""
        metrics = self._metrics
        if SHARED_FOLDER in os.environ:
            families = MultiProcessCollector(None).collect()  # type: ignore[no-untyped-call]
        else:
            gauges = (
                metrics.recent_labels,
                metrics.recent_confidence,
                metrics.recent_confidence_sum,
                metrics.recent_unknown,
            )
            families = [family for gauge in gauges for family in gauge.collect()]
        return {
            (sample.name, next(iter(sample.labels.values()), "")): float(sample.value)
            for family in families
            if family.name.startswith("fovsfe_recent_")
            for sample in family.samples
        }
