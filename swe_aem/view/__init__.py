"""A training run as plots and one HTML page (`docs/report.md`)."""
