"""Provides the model that is tuned: built on the spot once per lake (embedded language model, TIGER), or from outside."""

from dealrec_core.lake.nights import Fact, Snapshot, fingerprint
from dealrec_core.language import bases
from dealrec_core.recommenders.backend import older_half
from tasks import storage
from tasks.progress import shown
from tasks.stage import stage
from tasks.tonight import Tonight


@stage("base_model")
def provide_base_model(tonight: Tonight) -> Snapshot:
    """Writes the folder `models/base/<hash of settings>` where no earlier night has; a model from outside is only named."""
    backend = tonight.backend
    key = backend.base_key()
    if key is None:
        base = bases.locate(_pinned(tonight, backend.base_name))
        return Snapshot(stage="base_model", path=None, sha256=base.sha256, facts={"base model": base.name})
    path = f"models/base/{fingerprint(key)[:16]}"
    records = (night.find("base_model") for night in reversed(tonight.night.earlier))
    recorded = next((record.sha256 for record in records if record and record.path == path), None)
    sha256 = storage.published(tonight.lake, path, recorded) or _build(tonight, path)
    built = recorded is None  # also by a start that was killed
    facts: dict[str, Fact] = {"base model": backend.base_name, "built tonight": built}
    return Snapshot(stage="base_model", path=path, sha256=sha256, facts=facts)


def _pinned(tonight: Tonight, name: str) -> str:
    """The name of a base; one from the hub without a commit gets the commit that the newest earlier night recorded."""
    for night in reversed(tonight.night.earlier):
        record = night.find("base_model")
        if record is not None and str(record.facts["base model"]).startswith(f"{name}@"):
            return str(record.facts["base model"])
    return name


def _build(tonight: Tonight, path: str) -> str:
    """The hash of the published folder. Only the older half is learnt: what is recent is left to fine-tuning."""
    with storage.publishing(tonight.lake, path) as published, shown("base_model", "steps at most") as progress:
        past, checkpoints = older_half(tonight.train), tonight.checkpoints("base_model")
        tonight.backend.prepare(published.folder, tonight.known_catalogue, past, checkpoints, progress)
    tonight.drop_checkpoints("base_model")
    return published.sha256
