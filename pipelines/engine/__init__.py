"""The engine: a campaign driven over an executor, wave after wave, and the stages after it."""

from pipelines.engine.engine import run

__all__ = ["run"]
