"""Files and folders at URLs that fsspec knows, such as s3://bucket/run, beside those of this machine."""
