"""How the names of images begin that are built here, and so are in no registry."""

BUILT_HERE = "swe-aem/"
FROM_HARBOR = f"{BUILT_HERE}harbor-"
"""Images of Harbor task folders."""
