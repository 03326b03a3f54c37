"""The study of AEM on bug hunts, which `benchmarks/aem_study.py` runs."""
