from http import HTTPStatus

import pytest

from fovsfe.service.problems import PROBLEM_TYPES, Problem, busy


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
def test_a_problem_as_a_document(slug: str) -> None:
    document = Problem(slug, "So it is.").document("/cars")
    assert document == {
        "type": f"/cars/problems/{slug}",
        "title": PROBLEM_TYPES[slug].title,
        "status": PROBLEM_TYPES[slug].status,
        "detail": "So it is.",
    }
    assert HTTPStatus(PROBLEM_TYPES[slug].status) >= 400


@pytest.mark.parametrize(("seconds", "after"), [(0, "1"), (0.4, "1"), (3.6, "4")])
def test_when_to_come_again(seconds: float, after: str) -> None:
    assert busy(seconds).headers == {"Retry-After": after}


def test_types_that_clients_know_stay() -> None:
    statuses = {slug: kind.status for slug, kind in PROBLEM_TYPES.items()}
    assert statuses == {
        "bad-request": 400,
        "bad-form": 400,
        "no-photo": 400,
        "upload-stopped": 400,
        "no-key": 401,
        "not-found": 404,
        "wrong-method": 405,
        "too-slow": 408,
        "too-large": 413,
        "too-many-photos": 413,
        "not-an-image": 415,
        "damaged-photo": 422,
        "too-many-pixels": 422,
        "too-much-memory": 422,
        "bad-parameter": 422,
        "rate-limited": 429,
        "long-header": 431,
        "internal": 500,
        "busy": 503,
        "long-wait": 503,
        "not-ready": 503,
    }
