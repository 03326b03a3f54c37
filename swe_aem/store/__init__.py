"""What a rollout keeps on disk: trajectories in append-only segments, their summary, their export."""

from swe_aem.store.store import Entry, Store, StoreWriter, stored
from swe_aem.store.summary import Summary, Totals, read_summary, write_summary

__all__ = ["Entry", "Store", "StoreWriter", "Summary", "Totals", "read_summary", "stored", "write_summary"]
