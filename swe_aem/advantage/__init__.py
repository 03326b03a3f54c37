"""Advantages: group baselines (`group`) and Adaptive Entropy Modulation (`aem`). Tensors in, tensors out."""
