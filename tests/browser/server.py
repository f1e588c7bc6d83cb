"""A real `moee serve` in a process of its own, over a real index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.weights import lend_weights

MOEE = [sys.executable, "-m", "moee"]
START_S = 180


def run(*arguments: str | Path, environment: Mapping[str, str]) -> None:
    """Run a command to its end; fail with what it says."""
    done = subprocess.run(
        [*MOEE, *map(str, arguments)], capture_output=True, env=environment, check=False, timeout=1800, text=True
    )
    assert done.returncode == 0, f"moee {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"


class Server:
    """`moee serve ARGUMENTS`, on a free port that it keeps when it is started again."""

    def __init__(self, *arguments: str | Path, environment: Mapping[str, str], log: Path, **extra: str) -> None:
        self._arguments = [*map(str, arguments)]
        self._environment = {**environment, **extra}
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None
        self._port = "0"
        self.url = ""

    def start(self) -> Server:
        """Start it, and wait until it listens."""
        log = self._log.open("a")
        process = subprocess.Popen(
            [*MOEE, "serve", *self._arguments, "-p", self._port],
            stdout=subprocess.PIPE,
            stderr=log,
            env=self._environment,
            text=True,
        )
        log.close()
        self._process = process
        stop = threading.Timer(START_S, process.kill)
        stop.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        stop.cancel()
        if "http://" not in line:
            process.kill()
            process.communicate()
            raise AssertionError(f"the server did not start:\n{self._log.read_text()}")
        # what it may print later must not fill the pipe
        self._drain = threading.Thread(target=_drain, args=(process.stdout,), daemon=True)
        self._drain.start()
        self.url = line[line.index("http://") :].strip()
        self._port = self.url.rsplit(":", 1)[1].rstrip("/")
        return self

    def freeze(self) -> None:
        """Stop its clock: it accepts connections and answers nothing."""
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._running.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        self._running.kill()
        self._ended()

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def _ended(self) -> None:
        process = self._running
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
        if self._drain is not None:
            self._drain.join(30)
        self._process = None

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Ask it without a browser."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def get(self, path: str) -> dict[str, Any]:
        """Read from it without a browser."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    @property
    def weights(self) -> dict[str, float]:
        """What each view of its index counts if nothing is said."""
        weights: dict[str, float] = self.get("/info")["index"]["weights"]
        return weights

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").rstrip("/").rsplit(":", 1)
        return host, int(port)

    @property
    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "the server does not run"
        return self._process


def _drain(stream: IO[str]) -> None:
    with stream:
        for _ in stream:
            pass


def environment_of(cache: Path) -> dict[str, str]:
    """Return the environment of a server and of the commands that make its index."""
    lend_weights(cache)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MOEE_", "PYTHON"))}
    return {**inherited, "MOEE_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
