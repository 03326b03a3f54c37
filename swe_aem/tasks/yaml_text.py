"""YAML of people into a model, with an error that names where and what."""

from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from swe_aem.errors import UserError

_Model = TypeVar("_Model", bound=BaseModel)


def parse_yaml(text: str, model: type[_Model], where: str) -> _Model:
    """The model; an empty text is an empty mapping. Raises `UserError` that names `where` and the field."""
    try:
        return model.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise UserError(f"{where}: is not YAML ({' '.join(str(error).split())[:200]})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}." for part in first["loc"]).rstrip(".")
        raise UserError(f"{where}: {place + ': ' if place else ''}{first['msg']}") from error
