"""service.workers: all worker processes stop with the one that started them, whenever the signal comes."""

import subprocess
import sys
import time

import pytest

# A signal comes just after worker number sys.argv[1] was started, before it can be in the list of workers or
# have any handler.
PROGRAM = """
import os, signal, socket, sys, time
from multiprocessing.context import ForkProcess
from fovsfe.service.workers import Workers

started, start = [], ForkProcess.start

def start_and_signal(process):
    start(process)
    started.append(process)
    if len(started) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGTERM)

def serve(on_ready, is_orphan):
    time.sleep(60)

ForkProcess.start = start_and_signal
Workers(3, 30.0, socket.socket(), serve).run(lambda: None)
print(*(process.exitcode for process in started))
"""


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_signal_while_workers_are_started_stops_those_that_are(number: int) -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(number)], check=True, capture_output=True, text=True, timeout=60
    )
    codes = done.stdout.split()
    assert len(codes) == number  # no other one is started
    assert set(codes) == {"0"}  # none had to be killed
    assert time.monotonic() - begun < 20
