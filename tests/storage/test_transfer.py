"""storage.transfer: a file is uploaded, or one line says why not."""

import pytest

from fovsfe.errors import FovsfeError
from fovsfe.storage.locations import as_path
from fovsfe.storage.transfer import upload


def test_a_bucket_that_is_not_there_is_one_line(bucket, tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(FovsfeError, match="there is no such bucket or folder"):
        upload(tmp_path / "x", as_path("s3://no-such-bucket-at-all/x"))
