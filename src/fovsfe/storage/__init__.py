"""Files and folders at URLs that fsspec knows, such as s3://bucket/run, beside those of this machine.

`locations` tells paths from URLs, `retry` repeats what a lost connection has stopped, `transfer` uploads one
file, `mirror` keeps a URL like a local folder, and `folders` offers local folders that stand for a URL. Any
back-end of fsspec works once it is installed; `locations` names the package to install, `transfer` knows
which ones are object stores, and `retry` knows the errors of their libraries.
"""
