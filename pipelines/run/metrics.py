"""What Prometheus may ask a driver: shards, failures, steps and bytes, by campaign.

Workers need no port of their own: what they did stands in the receipts that come back.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client import start_http_server as serve

from pipelines.engine.engine import Drive
from storage.errors import CampaignError
from storage.files.ledger import Receipt
from storage.planning.plan import SAMPLED, WARMUP, Shard
from workers.faults import Fault
from workers.shard import Outcome

HOST = "127.0.0.1"
PREFIX = "finitewidth"
Metric = TypeVar("Metric", Counter, Gauge, Histogram)
SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


class Metrics:
    """The metrics of one run; all have the labels `campaign` (its name) and `identity`."""

    def __init__(self, driven: Drive) -> None:
        self._driven = driven
        self.registry = CollectorRegistry()
        identity = driven.plan.identity[:10]
        self.labels = {"campaign": driven.prepared.spec.name, "identity": identity}
        self._failed: set[str] = set()
        self._define()
        self._steps.inc(self._steps_before())
        self._checkpoint.set(time.time())
        self._shards()
        self._samples_now()

    def _define(self) -> None:
        registry, always = self.registry, tuple(self.labels)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, (*always, *labels), PREFIX, registry=registry)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, (*always, *labels), PREFIX, registry=registry)

        self._states = gauge("shards", "Shards that are finished, failed or wait.", "state")
        self._stage = gauge("stage", "1 for what the run is at: a wave, or a stage.", "stage")
        self._failures = counter("failures", "Attempts at shards that failed.", "kind")
        for kind in Fault:  # from 0 on, or the first one is no increase
            self._failures.labels(**self.labels, kind=kind)
        self._busy = counter("worker_seconds", "Seconds spent on finished shards.", "host")
        self._steps = self._of_run(
            counter("member_steps", "Steps of the sampler times chains, of finished shards.")
        )
        self._bytes = self._of_run(
            counter("written_bytes", "Bytes of arrays of finished shards, before compression.")
        )
        self._diverged = self._of_run(
            counter("diverged_chains", "Chains that diverged, once for each of their segments.")
        )
        self._samples = self._of_run(
            gauge("effective_samples", "Bulk effective samples of the slowest quantity, summed.")
        )
        self._checkpoint = self._of_run(
            gauge("last_checkpoint_timestamp_seconds", "Unix time of the last segment that ended.")
        )
        about = "Seconds that a worker spent on a shard."
        self._seconds = self._of_run(
            Histogram("shard_seconds", about, always, PREFIX, registry=registry, buckets=SECONDS)
        )
        ProcessCollector(registry=registry)

    def _of_run(self, metric: Metric) -> Metric:
        """The one of this run: Prometheus shows a metric with labels once these are known."""
        return metric.labels(**self.labels)

    def said(self, text: str) -> None:
        """A line for people is no number."""

    def staged(self, name: str) -> None:
        """Another wave or stage begins."""
        self._stage.clear()
        self._stage.labels(**self.labels, stage=name).set(1)
        self._samples_now()

    def grown(self, total: int) -> None:
        """There is more to do."""
        self._shards()

    def counted(self, outcome: Outcome) -> None:
        """A shard has ended."""
        name = outcome.shard.name
        if outcome.receipt is None:
            self._failed.add(name)
            self._failures.labels(**self.labels, kind=outcome.fault or Fault.BUG).inc()
        else:
            self._failed.discard(name)
            self._finished(outcome.shard, outcome.receipt)
        self._shards()

    def _finished(self, shard: Shard, receipt: Receipt) -> None:
        self._busy.labels(**self.labels, host=receipt["host"]).inc(receipt["seconds"])
        self._seconds.observe(receipt["seconds"])
        self._steps.inc(member_steps(shard))
        self._bytes.inc(receipt.get("bytes", 0))
        self._diverged.inc(receipt.get("diverged", 0))
        if "checkpoint" in receipt:
            self._checkpoint.set(receipt["started"] + receipt["seconds"])

    def _shards(self) -> None:
        driven = self._driven
        failed = len(self._failed)
        counts = {"finished": driven.done, "failed": failed}
        counts["waiting"] = driven.total - driven.done - failed
        for state, count in counts.items():
            self._states.labels(**self.labels, state=state).set(count)

    def _steps_before(self) -> int:
        """Member-steps of what was finished before this run."""
        finished = self._driven.finished
        lanes = self._driven.plan.lanes()
        return sum(member_steps(each) for lane in lanes for each in lane if each.name in finished)

    def _samples_now(self) -> None:
        self._samples.set(effective_samples(self._driven))


def member_steps(shard: Shard) -> int:
    """Steps of the sampler in a shard times the chains that it keeps; 0 in a regression."""
    sampler, ensemble = shard.cell.spec.sampler, shard.cell.spec.ensemble
    if shard.kind not in SAMPLED or sampler is None or ensemble is None:
        return 0
    steps = sampler.warmup if shard.segment == WARMUP else sampler.segment * sampler.thin
    return steps * ensemble.block


def effective_samples(driven: Drive) -> float:
    """The smallest bulk ESS of any quantity, summed over cells and datasets, as last assessed."""
    root = driven.store.root
    if "progress" not in root or "ess_bulk" not in root.group("progress"):
        return 0.0
    found = np.asarray(root["progress/ess_bulk"][...], float)  # (cell, dataset, quantity)
    known = np.isfinite(found).any(axis=-1)
    return float(np.nanmin(found[known], axis=-1).sum()) if known.any() else 0.0


@contextmanager
def exported(driven: Drive, place: str) -> Iterator[Metrics]:
    """Metrics of a run at http://PLACE/metrics while the block runs.

    `place` is a port of loopback, or host:port. CampaignError where nothing can listen there.
    """
    host, _, port = place.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise CampaignError(f"--metrics {place}: found no port; give PORT or HOST:PORT")
    metrics = Metrics(driven)
    try:
        server, thread = serve(int(port), host or HOST, metrics.registry)
    except OSError as error:
        raise CampaignError(
            f"--metrics {place}: nothing can listen there ({error.strerror}); give another port"
        ) from None
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
