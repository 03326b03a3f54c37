"""The view room: a training run as plots and one HTML page (`docs/report.md`)."""
