"""Everything that a run keeps on disk: trajectories in append-only segments, their summary, their export."""
