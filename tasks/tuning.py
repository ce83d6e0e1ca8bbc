"""Tunes tonight's model on the coreset and packs it as a recommender anyone can load."""

import tempfile
from pathlib import Path

import polars as pl
from peft import PeftModel

from dealrec_core import schema
from dealrec_core.lake.nights import Fact, Night, Snapshot
from dealrec_core.language import fine_tuning
from dealrec_core.recommenders import baselines, bundle, grounding, tiger
from dealrec_core.recommenders.bigrec import BIGRec, title_judge
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples import sequences
from dealrec_core.settings.recommenders import BIGRecConfig
from tasks import storage
from tasks.base_model import BaseModel, base_model_of, examples
from tasks.catalogue import full_catalogue, known_catalogue, log_before_test, log_before_validation
from tasks.champion import BASE, champion_on, load_tiger
from tasks.coreset import coreset_of
from tasks.ingest import boundaries_of, samples_of
from tasks.progress import shown
from tasks.stage import device, stage

GAMMAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@stage("fine_tune")
def tune(night: Night) -> Snapshot:
    """Folder `models/recommender/<night>`: model, catalogue and settings; loads by itself."""
    base, chosen = base_model_of(night), coreset_of(night)
    replayed = _replayed(night, chosen)
    trained_through = boundaries_of(night).test_start.isoformat()
    lineage: dict[str, Fact] = {
        "night": night.name,
        "coreset": len(chosen),
        "trained_through": trained_through,
        BASE: base.sha256,
    }
    pack = _tiger if night.config.recommender.backend == "tiger" else _bigrec
    path = f"models/recommender/{night.name}"
    with tempfile.TemporaryDirectory() as folder:
        found = pack(night, base, pl.concat([chosen, replayed]), folder=Path(folder), lineage=lineage)
        sha256 = storage.publish(night.lake, Path(folder), path)
    storage.drop_checkpoints(night, "fine_tune")
    facts: dict[str, Fact] = {
        "backend": night.config.recommender.backend,
        "examples": len(chosen) + len(replayed),
        "replayed": len(replayed),
        **found,
        "trained through": trained_through,
    }
    return Snapshot(stage="fine_tune", path=path, sha256=sha256, rows=len(chosen), facts=facts)


def _bigrec(
    night: Night, base: BaseModel, chosen: pl.DataFrame, *, folder: Path, lineage: dict[str, Fact]
) -> dict[str, Fact]:
    """A language model with an adapter."""
    config, where = night.config, device(night)
    model, tokenizer = base.load(where, four_bit=config.language_model.four_bit)
    start = champion_on(night, base.sha256) if config.fine_tune.start == "champion" else None
    held = _validation(night)
    judge = None
    if config.fine_tune.judge == "recall":
        titles = known_catalogue(night).titles
        judge = title_judge(tokenizer, examples(night, held), titles, config=config.recommender.bigrec)
    with shown("fine_tune", "steps at most") as progress:
        tuned = fine_tuning.fine_tune(
            model,
            tokenizer,
            examples(night, chosen),
            examples(night, held),
            prompt=config.recommender.prompt,
            config=config.fine_tune,
            seed=config.run.seed,
            device=where,
            judge=judge,
            adapter=None if start is None else start / bundle.ADAPTER,
            checkpoint_folder=storage.checkpoint_folder(night, "fine_tune"),
            progress=progress,
        )
    popularity, wanted = _counts(night), config.recommender
    by_neighbours = wanted.decoding == "ground" and wanted.weight == "neighbours"
    neighbours = baselines.item_knn(log_before_validation(night).collect()) if by_neighbours else None
    recommender = BIGRec(
        name="candidate",
        model=tuned.model,
        tokenizer=tokenizer,
        catalogue=full_catalogue(night),
        popular=list(popularity)[:1000],
        config=config.recommender.bigrec,
        popularity=popularity,
        neighbours=neighbours,
    )
    settings = _with_gamma(recommender, held)
    bundle.save(
        folder,
        base=base.location,
        adapter=tuned.model,
        catalogue=recommender.catalogue,
        popular=recommender.popular,
        config=settings,
        lineage=lineage,
        popularity=popularity if settings.decoding == "ground" else None,
        neighbours=neighbours,
    )
    return {
        "started from": "base" if start is None else "champion",
        "steps": tuned.steps,
        "tokens": tuned.tokens,
        "first loss": round(tuned.losses[0], 4),
        "last loss": round(tuned.losses[-1], 4),
        "best epoch": tuned.best_epoch,
        f"validation {config.fine_tune.judge}": round(abs(max(tuned.qualities)), 4),
        "resumed at step": tuned.resumed_at,
        **({"gamma": float(settings.gamma)} if settings.decoding == "ground" else {}),
    }


def _tiger(
    night: Night, base: BaseModel, chosen: pl.DataFrame, *, folder: Path, lineage: dict[str, Fact]
) -> dict[str, Fact]:
    """An encoder-decoder over semantic ids; items without a code get one, the others keep theirs."""
    config, where = night.config, device(night)
    champion = champion_on(night, base.sha256)
    start = champion if config.fine_tune.start == "champion" else None
    ids = (load_tiger(base.location, where) if champion is None else load_tiger(champion, where)).ids
    extended = ids.extended(full_catalogue(night))
    with shown("fine_tune", "epochs at most") as progress:
        trained = tiger.train(
            sequences.encode(chosen, extended.item_ids),
            sequences.encode(_validation(night), extended.item_ids),
            extended,
            config=config.tiger,
            seed=config.run.seed,
            device=where,
            initial=(load_tiger(base.location, where) if start is None else load_tiger(start, where)).model,
            checkpoint_folder=storage.checkpoint_folder(night, "fine_tune"),
            progress=progress,
        )
    popular = list(_counts(night))[:1000]
    bundle.save_tiger(folder, Tiger("candidate", trained.model, extended, popular, config.tiger), lineage=lineage)
    best = min(trained.validation_losses)
    return {
        "started from": "base" if start is None else "champion",
        "items coded tonight": len(extended.item_ids) - len(ids.item_ids),
        "first loss": round(trained.losses[0], 4),
        "last loss": round(trained.losses[-1], 4),
        "best epoch": trained.validation_losses.index(best),
        "validation loss": round(best, 4),
    }


def _with_gamma(recommender: BIGRec, held: pl.DataFrame) -> BIGRecConfig:
    """The settings with a number for gamma: where they ask for it, the one with the best recall on validation samples."""
    config = recommender.config
    if config.gamma != "validation":
        return config
    if config.decoding != "ground":
        return config.model_copy(update={"gamma": 0.0})
    assert isinstance(recommender.model, PeftModel)
    histories = held[schema.HISTORY].to_list()
    found = recommender.distances(histories)
    targets = sequences.encode(held, recommender.catalogue.item_ids).targets
    gamma = grounding.best_gamma(found, recommender.weights(histories), targets, gammas=GAMMAS, k=10)
    return config.model_copy(update={"gamma": gamma})


def _replayed(night: Night, chosen: pl.DataFrame) -> pl.DataFrame:
    """Samples of the coresets of the last `fine_tune.replay_nights` nights that are not in tonight's, by sample_id."""
    wanted = night.config.fine_tune.replay_nights
    earlier = [before.name for before in night.earlier if before.find("coreset") is not None]
    names = earlier[len(earlier) - min(wanted, len(earlier)) :]
    table = night.lake.scan("coresets", night.need("coreset").version)
    rows = table.filter(pl.col(schema.NIGHT).is_in(names)).select(schema.SAMPLE_ID).unique().collect()
    found = samples_of(night, "train").join(rows, on=schema.SAMPLE_ID, how="semi")
    return found.join(chosen, on=schema.SAMPLE_ID, how="anti").select(chosen.columns).sort(schema.SAMPLE_ID)


def _validation(night: Night) -> pl.DataFrame:
    """At most `fine_tune.validation_examples` of the newest validation samples."""
    newest = samples_of(night, "validation").sort(schema.TIMESTAMP, schema.SAMPLE_ID)
    return newest.tail(night.config.fine_tune.validation_examples)


def _counts(night: Night) -> dict[str, float]:
    """Interactions of each item before the held-out slice, most first: for users without a history, and for gamma."""
    counts = log_before_test(night).group_by(schema.ITEM_ID).len().sort("len", schema.ITEM_ID, descending=[True, False])
    found = counts.collect()
    return dict(zip(found[schema.ITEM_ID].to_list(), found["len"].cast(pl.Float64).to_list(), strict=True))
