"""Training: GRPO with AEM on TRL's trainer."""
