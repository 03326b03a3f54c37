"""Advantages: baselines of groups (`baselines`), Adaptive Entropy Modulation (`aem`), and both by configuration."""
