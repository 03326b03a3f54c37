"""`swe-aem bench`: a task set with one policy, from the images to the number, in one resumable run."""

from swe_aem.bench.page import BenchPage, read_page, text_lines, write_pages
from swe_aem.bench.plan import Plan
from swe_aem.bench.run import BenchResult, bench, bench_directory, plan_lines

__all__ = [
    "BenchPage",
    "BenchResult",
    "Plan",
    "bench",
    "bench_directory",
    "plan_lines",
    "read_page",
    "text_lines",
    "write_pages",
]
