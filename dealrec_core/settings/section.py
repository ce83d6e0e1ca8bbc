"""What every section of the settings is: frozen, documented field by field, and strict about its keys."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a settings file: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
