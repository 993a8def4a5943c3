"""`diga serve`: on this machine alone, and gone when it is told to go."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request

import psutil
import pytest

from tests import tiny


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_pages_are_served_on_loopback_until_told_to_stop(tmp_path, number):
    place = tiny.place(tmp_path)
    (place.home / "reports/demo").mkdir(parents=True)
    (place.home / "reports/demo/report.md").write_text("# Demo\n")
    page, reports = free(), free()
    process = tiny.spawn(place.home, "serve", "--port", str(page), "--reports-port", str(reports))
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
        assert told[0].split() == ["MLflow", f"http://127.0.0.1:{page}"], process.communicate()
        assert told[1].split() == ["reports", f"http://127.0.0.1:{reports}"]
        assert fetched(f"http://127.0.0.1:{page}/health") == "OK"
        assert fetched(f"http://127.0.0.1:{reports}/demo/report.md") == "# Demo\n"
        started = [psutil.Process(process.pid), *tiny.children(process.pid)]
        listening = {
            (c.laddr.ip, c.laddr.port)
            for p in started
            for c in p.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        }
        assert {ip for ip, _ in listening} == {"127.0.0.1"}
        assert {port for _, port in listening} >= {page, reports}
        process.send_signal(number)
        code, _, errors = tiny.ended(process, 20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert code == 128 + number
    assert "Traceback" not in errors
    assert tiny.until(lambda: not tiny.alive(started), 10)
