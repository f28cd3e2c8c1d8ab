"""An S3 server for tests, where the packages for it are installed."""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator

import pytest

BUCKET = "caviar-tests"


@contextlib.contextmanager
def serving_s3() -> Iterator[str]:
    """Give the address of a directory in an S3 server's bucket; the environment has what its clients need.

    Every request is logged by the logger ``werkzeug``.
    """
    for package in ("moto", "s3fs", "flask_cors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"an S3 server for tests needs {package}, which is not installed")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.INFO)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import fsspec

        fsspec.filesystem("s3").mkdir(BUCKET)
        try:
            yield f"s3://{BUCKET}/studies"
        finally:
            server.stop()
