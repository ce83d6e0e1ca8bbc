"""Where a night runs and keeps things."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section


class RunConfig(Section):
    """Where a night keeps its local state, and what it draws at random."""

    home: str = Field(default="var", title="Home folder")
    """Local folder for locks, caches and, by default, the lake and the registry."""
    seed: int = Field(default=0, ge=0, lt=2**31, title="Seed")
    """Every random choice of a night comes from here."""
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", title="Device")
    """auto takes a GPU when there is one."""
    warm_start: bool = Field(default=True, title="Warm start")
    """Start the surrogate from last night's; False trains it from scratch."""
    quarantine_alert: float = Field(default=0.05, ge=0, le=1, title="Quarantine alert")
    """Above this share of bad rows an event is raised; the night goes on."""
    engine: Literal["threads", "ray"] = Field(default="threads", title="Engine")
    """What raw files and effort shards are mapped over: this machine, or a Ray cluster (extra `ray`); same results."""
    ray_address: str | None = Field(default=None, title="Ray address")
    """Of a running cluster, such as ray://head:10001; None starts one on this machine for as long as it is needed."""
    placement: Literal["here", "pools"] = Field(default="here", title="Placement of stages")
    """here: one process; pools: stages that compute run as their own deployments, in the work pool of these."""


class LakeConfig(Section):
    """Where the tables, models and coresets are."""

    root: str = Field(default="var/lake", title="Lake root")
    """A folder, or s3://bucket/prefix (endpoint and keys from the AWS_* environment variables)."""
    partition: Literal["day", "month", "year"] = Field(default="day", title="Partition of interactions")
    """How long a period one partition of the interactions holds; choose so that one holds at least some 10,000 rows."""


class RegistryConfig(Section):
    """The MLflow server and the names used there."""

    tracking_uri: str = Field(default="sqlite:///var/mlflow.db", title="MLflow tracking URI")
    """An MLflow server (http://…), or a SQLite file for one machine."""
    artifacts: str | None = Field(default="var/mlflow-artifacts", title="Artifact folder")
    """Where a new experiment keeps its artifacts; None leaves it to the MLflow server."""
    experiment: str = Field(default="dealrec", title="Experiment")
    """One per domain."""
    model: str = Field(default="recommender", title="Registered model")
    """Its aliases candidate, champion and previous are moved by the nights."""
    surrogate: str = Field(default="surrogate", title="Registered surrogate")
    """Every night's surrogate is a version of it."""


class UpkeepConfig(Section):
    """How large data files should be, and how long what is replaced stays."""

    file_mib: int = Field(default=128, ge=1, le=4096, title="File size (MiB)")
    """Compaction joins the smaller files of a partition up to about this size."""
    retention_hours: int = Field(default=168, ge=24, title="Retention (hours)")
    """Files that no version needs stay so long: longer than the longest ingest, and long enough to notice a mistake."""
    nights: int = Field(default=30, ge=1, title="Nights kept")
    """The tables of so many newest nights stay readable as they were; those of registered models and champions always do."""
