import hashlib

import pytest

from fovsfe.service.api_keys import ApiKeys
from fovsfe.service.problems import Problem

KEY = "open sesame"
DIGESTS = ("0" * 64, hashlib.sha256(KEY.encode()).hexdigest())


def test_only_known_keys_are_accepted() -> None:
    ApiKeys(()).check("")
    ApiKeys(DIGESTS).check(f"Bearer {KEY}")
    for wrong in ("", KEY, f"Basic {KEY}", "Bearer ", "Bearer open", f"Bearer {DIGESTS[1]}", "Bearer ключ"):
        with pytest.raises(Problem) as caught:
            ApiKeys(DIGESTS).check(wrong)
        assert caught.value.slug == "no-key"
        assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
