"""The suite of all benchmarks: what each declares, what this host lacks, results on file, and the page made of them."""
