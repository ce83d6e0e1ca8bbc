"""The outcome of a night in one word and one sentence, for a person who does not read gates."""

from dataclasses import dataclass

from dealrec_core.lake import promotions
from dealrec_core.lake.nights import Night


@dataclass(frozen=True)
class Outcome:
    """The outcome of a night, one of Promoted, Rejected, Unchanged, Empty and Unfinished, with its reason."""

    word: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.word}: {self.sentence}"


def outcome(night: Night) -> Outcome:
    """The outcome of a night, from its records alone."""
    if (promotion := night.find("promotion")) is not None:
        word = promotions.outcome(promotion.facts).capitalize()
        return Outcome(word, str(promotion.facts["reason"]).removeprefix(f"{word}: "))
    if night.cut_short is not None:
        return Outcome("Empty", f"{night.cut_short}.")
    done = ", ".join(record.stage.replace("_", " ") for record in night.snapshots()) or "nothing"
    return Outcome("Unfinished", f"the finished stages are {done}.")
