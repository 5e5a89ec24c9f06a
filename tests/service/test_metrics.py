import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from fovsfe.service.metrics import PHASES, SHARED_FOLDER, ServiceMetrics


def test_all_that_is_counted() -> None:
    metrics = ServiceMetrics()
    metrics.answers.labels("Ford").inc()
    names = {family.name for family in text_string_to_metric_families(metrics.text().decode())}
    assert names >= {
        "fovsfe_requests",
        "fovsfe_request_seconds",
        "fovsfe_phase_seconds",
        "fovsfe_batch_photos",
        "fovsfe_queue_photos",
        "fovsfe_problems",
        "fovsfe_answers",
        "fovsfe_unknown_answers",
        "process_resident_memory_bytes",
    }
    for phase in PHASES:
        assert f'fovsfe_phase_seconds_count{{phase="{phase}"}} 0.0' in metrics.text().decode()


def test_applications_of_one_process_count_apart() -> None:
    first, second = ServiceMetrics(), ServiceMetrics()
    first.unknown.inc()
    assert b"fovsfe_unknown_answers_total 1.0" in first.text()
    assert b"fovsfe_unknown_answers_total 0.0" in second.text()


def test_workers_add_up(tmp_path: Path) -> None:
    program = (
        "from fovsfe.service.metrics import ServiceMetrics; metrics = ServiceMetrics();"
        "metrics.answers.labels('Ford').inc(); metrics.decode.observe(0.02); print(metrics.text().decode())"
    )
    environ = os.environ | {SHARED_FOLDER: str(tmp_path)}
    for count in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environ
        )
        assert f'fovsfe_answers_total{{label="Ford"}} {count}.0' in done.stdout
        assert f'fovsfe_phase_seconds_count{{phase="decode"}} {count}.0' in done.stdout
