"""Functions and settings behind `import swe_aem` (`docs/api.md`). The verbs of the command line call the same code."""
