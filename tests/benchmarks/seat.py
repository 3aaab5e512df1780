"""A contestant's place: the process behind it, which answers one line of JSON with another."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).parent


class Listed(Protocol):
    """A row of a table."""

    version: str
    absence: str


@dataclass
class Seat:
    """A row of the table and the process behind it; absent where that does not start."""

    row: Listed
    python: str
    script: str
    name: str
    environment: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    process: subprocess.Popen[str] | None = field(default=None, init=False)

    def begin(self) -> None:
        """Start the process; what cannot even tell its version is absent."""
        command = [self.python, str(HERE / self.script), self.name]
        pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            self.process = subprocess.Popen(
                command, text=True, env={**os.environ, **self.environment}, **pipes
            )
            self.row.version = str(self.ask("about", None))
        except (OSError, RuntimeError) as error:
            self.drop(error)

    def ask(self, order: str, argument: object) -> Any:
        """The answer to an order; RuntimeError with the last line of its complaint if it died."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({order: argument}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        if line := self.process.stdout.readline():
            return json.loads(line)
        complaint = self.process.communicate()[1].strip().splitlines()
        raise RuntimeError(complaint[-1] if complaint else "it ended without a word")

    def drop(self, error: Exception) -> None:
        """Measure it no further, and say why in the table."""
        self.end()
        self.row.absence = str(error)
        self.process = None

    def end(self) -> None:
        """Let the process go."""
        if self.process is not None:
            self.process.communicate()
