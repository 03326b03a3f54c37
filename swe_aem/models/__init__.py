"""What a model's own files say: which chat format fits them, and whether rollouts write what its chat template does."""

from swe_aem.models.check import check_model, require_fit

__all__ = ["check_model", "require_fit"]
