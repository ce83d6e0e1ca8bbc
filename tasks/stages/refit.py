"""Goes on tuning a promoted model with the held-out slices among the samples, so that what is served knows the newest days."""

from dataclasses import replace

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.lake.nights import Fact, Snapshot
from dealrec_core.recommenders import bundle
from dealrec_core.recommenders.backend import BASE, ItemStatistics, Tuned
from dealrec_core.samples import calibration, split
from dealrec_core.samples.calibration import Weights
from tasks import storage
from tasks.beside import newest_samples, remembered
from tasks.progress import shown
from tasks.stage import stage
from tasks.stages.promotion import verdict_of
from tasks.tonight import Tonight


@stage("refit")
def refit(tonight: Tonight) -> Snapshot:
    """Names the folder to be served: `models/recommender/<night>-refit` where the gate promotes tonight's candidate, else the candidate's.

    The refitted model starts from the candidate. It learns newest samples that the candidate has not learnt, and as many that it has.
    Rate, number of epochs and weights of the calibration are the candidate's. The gate's figures are those of the candidate: there
    is no user on whom the refitted model could be judged, and the next night's new events will do that.
    """
    night, tuned = tonight.night, tonight.night.need("fine_tune")
    if (reason := _reason_against(tonight)) is not None:
        facts: dict[str, Fact] = {"refit": f"none: {reason}", "trained through": tuned.facts["trained through"]}
        return tuned.model_copy(update={"stage": "refit", "facts": facts})
    newest, known = _examples(tonight)
    examples = pl.concat([newest, known])
    continued = _continued(tonight, examples, epochs=int(str(tuned.facts["best epoch"])))
    through, path = tonight.boundaries.end.isoformat(), f"models/recommender/{night.name}-refit"
    base = night.need("base_model").sha256
    lineage = {"night": night.name, "coreset": tuned.rows, "trained_through": through, BASE: base}
    with storage.publishing(tonight.lake, path) as published:
        bundle.save(published.folder, continued.recommender, base=continued.base, lineage=lineage)
    tonight.drop_checkpoints("refit")
    facts = {
        "refit": "the candidate, tuned on with held-out samples",
        "figures": f"those of {tuned.path}, the model that the gate judged",
        "examples": len(examples),
        "of the held-out slices": len(newest),
        "epochs": continued.facts["best epoch"],
        "steps": continued.facts["steps"],
        "tokens": continued.tokens,
        "trained through": through,
    }
    return Snapshot(stage="refit", path=path, sha256=published.sha256, rows=len(newest), facts=facts)


def _examples(tonight: Tonight) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Newest samples that the candidate has not learnt, and as many of those of the train slice that it has."""
    newest = _not_learnt(tonight)
    known = pl.concat([tonight.coreset, remembered(tonight, tonight.coreset)]).sort(schema.SAMPLE_ID)
    return newest, split.drawn(known, len(newest), np.random.default_rng(tonight.config.run.seed))


def _not_learnt(tonight: Tonight) -> pl.DataFrame:
    """Newest samples of both held-out slices that tuning has not learnt."""
    learnt = newest_samples(tonight, tonight.validation, tonight.coreset)
    held_out = pl.concat([tonight.validation, tonight.served.validation])
    return newest_samples(tonight, held_out.join(learnt, on=schema.SAMPLE_ID, how="anti"), tonight.coreset)


def _reason_against(tonight: Tonight) -> str | None:
    """Why the model is served as it was judged; None where it is to be tuned on."""
    if not tonight.config.fine_tune.refit:
        return "fine_tune.refit is 0"
    if not tonight.night.need("fine_tune").facts["best epoch"]:
        return "no epoch was better than the start"
    verdict = verdict_of(tonight)
    if not verdict.promoted:
        return "the gate does not promote"
    if verdict.winner != tonight.night.name:
        return "the gate promotes a shadow"
    return "the candidate has learnt every sample that may be learnt" if _not_learnt(tonight).is_empty() else None


def _continued(tonight: Tonight, examples: pl.DataFrame, *, epochs: int) -> Tuned:
    """The candidate, tuned on: on the catalogue and with the priors of the moment at which it is served."""
    served, folder = tonight.served, tonight.checkpoints("refit")
    settings = tonight.config.algorithms
    on = settings.fine_tune.model_copy(update={"start": "champion"})
    candidate = replace(
        served.base, champion=tonight.folder("fine_tune"), settings=settings.model_copy(update={"fine_tune": on})
    )
    newest = served.validation.sort(schema.TIMESTAMP, schema.SAMPLE_ID)
    held = newest.tail(tonight.config.algorithms.fine_tune.validation_examples)
    items = ItemStatistics(served.item_counts)
    with shown("refit", "steps at most") as progress:
        tuned = candidate.tune(examples, held, items, stop=epochs, checkpoint_folder=folder, progress=progress)
    described = calibration.read(bundle.description(tonight.folder("fine_tune"))["calibration"])
    weights = Weights() if described is None else described.weights
    priors = served.priors(served.boundaries.test_start)
    if weights.title:
        priors = replace(priors, titles=tuned.recommender.title_chances)
    calibrated = replace(tuned.recommender, calibration=priors.calibration(weights))
    return replace(tuned, recommender=calibrated)
