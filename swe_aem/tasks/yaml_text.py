"""Reads YAML into a model, with errors that name the file and the field."""

from typing import TypeVar

import yaml
from pydantic import BaseModel

from swe_aem.core.explain import explain_yaml
from swe_aem.core.settings import check
from swe_aem.errors import UserError

_Model = TypeVar("_Model", bound=BaseModel)


def parse_yaml(text: str, model: type[_Model], where: str) -> _Model:
    """The parsed model; an empty text is an empty mapping. Raises `UserError` that names `where` and the field."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {explain_yaml(error)}") from error
    return check(model, values, where=where)
