"""Where a night runs and where it stores its results."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from dealrec_core.settings.section import Section


class RunConfig(Section):
    """Where a night runs, where its local state is, and what it draws at random."""

    home: str = Field(default="var", title="Home folder")
    """Local folder for locks, caches and, by default, the lake and the registry. Choose a disk with enough space."""
    seed: int = Field(default=0, ge=0, lt=2**31, title="Seed")
    """Number from which every random choice of a night is derived. Change it to see how much of a result depends on chance."""
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", title="Device")
    """Device that computes. auto uses a GPU if the machine has one."""
    quarantine_alert: float = Field(default=0.05, ge=0, le=1, title="Quarantine alert")
    """Share of bad rows above which an event is raised; the night continues. Lower it to be told of faults earlier."""
    engine: Literal["threads", "ray"] = Field(default="threads", title="Engine")
    """Workers that read raw files and score effort: threads of this machine, or a Ray cluster (extra `ray`). Results are equal."""
    ray_address: str | None = Field(default=None, title="Ray address")
    """Address of a running Ray cluster, such as ray://head:10001. None starts a cluster on this machine, which ends with the stage."""
    placement: Literal["here", "pools"] = Field(default="here", title="Placement of stages")
    """Where stages run. here: in one process; pools: stages that compute run in their own work pools, for instance on a GPU elsewhere."""


class LakeConfig(Section):
    """Where the tables, models and coresets are."""

    root: str = Field(default="var/lake", title="Lake root")
    """Place of all tables, models and coresets: a folder, or s3://bucket/prefix (endpoint and keys from the AWS_* environment variables).
    Use a bucket if several machines work on one lake."""
    partition: Literal["day", "month", "year"] = Field(default="day", title="Partition of interactions")
    """Period of one partition of the table interactions. Choose it before the first night: a partition should have some 10,000 rows."""


LOGIN = re.compile(r"(?<=://)(?!/).*@")
"""User and password in a server's address. A file's address has no server, so an @ in its path is allowed."""

SECRET = "secret"
"""Type of the fault of a value that no message may repeat."""


def _without_login(uri: str) -> str:
    if LOGIN.search(uri):
        message = (
            "this address holds a user or a password, which every night would keep with its results; "
            "leave both out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        )
        raise PydanticCustomError(SECRET, message)
    return uri


TrackingUri = Annotated[str, AfterValidator(_without_login)]
"""An address of MLflow without user and password."""


class RegistryConfig(Section):
    """The MLflow server and the names used there."""

    tracking_uri: TrackingUri = Field(default="sqlite:///var/mlflow.db", title="MLflow tracking URI")
    """Address of the MLflow registry: a server (http://…), or a SQLite file for one machine. Use a server if other people need it, too. An
    address with a password is refused; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment."""
    artifacts: str | None = Field(default="var/mlflow-artifacts", title="Artifact folder")
    """Folder in which a new experiment stores its artifacts. None leaves the choice to the MLflow server."""
    experiment: str = Field(default="dealrec", title="Experiment")
    """Name of the experiment that holds the runs of all nights. Use another name for another log."""
    model: str = Field(default="recommender", title="Registered model")
    """Name of the registered model, whose aliases candidate, champion and previous the nights move. Use another name for another log."""
    surrogate: str = Field(default="surrogate", title="Registered surrogate")
    """Name of the registered model that gets every night's surrogate as a version. Use another name for another log."""


class UpkeepConfig(Section):
    """How large data files should be, and how long replaced files stay."""

    file_mib: int = Field(default=128, ge=1, le=4096, title="File size (MiB)")
    """Size in MiB up to which compaction joins the small files of a partition."""
    retention_hours: int = Field(default=168, ge=24, title="Retention (hours)")
    """Hours after which files are deleted when no version needs them any more. Use more hours than the longest ingest takes, and enough to
    notice a mistake."""
    scrub_days: int = Field(default=28, ge=1, title="Days between scrubs")
    """Days after which an upkeep reads every file that a night recorded and compares its hash. Lower it on disks you trust less."""
    nights: int = Field(default=30, ge=1, title="Readable nights")
    """Number of the newest nights whose tables stay readable. The tables of registered models and champions stay readable in any case."""
