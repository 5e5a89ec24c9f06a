import resource

import pytest

from fovsfe.photos.decode_process import _set_limit


@pytest.mark.parametrize(
    ("most", "wanted", "expected"),
    [
        (resource.RLIM_INFINITY, 100, 100),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
        (50, 100, 50),
        (50, resource.RLIM_INFINITY, 50),
        (200, 100, 100),
    ],
)
def test_limits_stay_within_those_of_the_session(
    monkeypatch: pytest.MonkeyPatch, most: int, wanted: int, expected: int
) -> None:
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (0, most))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    _set_limit(resource.RLIMIT_CPU, wanted)
    assert limits == [(expected, most)]
