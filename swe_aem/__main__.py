"""Makes `python -m swe_aem` the same as the command `swe-aem`."""

from swe_aem.cli import main

main()
