"""Looks at the base model from outside before a night computes anything."""

from dealrec_core.settings import Config


def look(config: Config) -> str:
    """Describes the base model of a night; nothing is loaded if the night builds its own.

    Raises:
        SettingsError: it is not on this machine or cannot be tuned.
    """
    if config.recommender.backend != "bigrec" or config.language_model.embedded:
        return "the first night builds a small one"
    from dealrec_core.language import suitability  # it takes seconds to import

    return suitability.look(config.language_model.base_model, config.fine_tune.lora)
