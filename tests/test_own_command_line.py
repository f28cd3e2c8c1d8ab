import subprocess
import sys

import pytest

from tests.processes import environment

LOOK = """
import sys, time
from caviar.cli.own_command_line import hide_secrets
hide_secrets()
print(open("/proc/self/cmdline").read().replace(chr(0), " "))
print(*sys.argv)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process write over its command line")
@pytest.mark.parametrize(
    "address", ["postgresql://ann:s3cret@db/x", "--storage=postgresql://ann:s3cret@db/José", "http://s3cret@host/x"]
)
def test_a_process_shows_no_passwords_in_its_command_line_and_keeps_them_itself(address: str) -> None:
    command = [sys.executable, "-c", LOOK, "run", address, "--trials", "4"]
    seen = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    *shown, kept = seen.splitlines()
    assert "s3cret" not in "".join(shown)
    assert "***@" in "".join(shown)
    assert shown[-1].split()[-2:] == ["--trials", "4"]
    assert kept == f"-c run {address} --trials 4"
