"""A campaign's store in the hands of its one driver."""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.files.lease import Lease, acquire
from storage.store.store import Store


@contextmanager
def held(store: Store) -> Iterator[tuple[Store, Lease]]:
    """The store for its driver, who holds the lease: writes end where the lease is lost.

    What killed writers left is swept first. CampaignError while there is another driver,
    SupersededError by a write after a loss.
    """
    with acquire(store.objects) as lease:
        fenced = Store(store.objects.fenced(lease.require))
        fenced.objects.sweep()
        yield fenced, lease
