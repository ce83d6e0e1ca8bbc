"""Compares selection methods: runs the cells that have not finished, then writes tables and plots."""

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core import settings
from dealrec_core.settings.section import Section
from dealrec_core.study.config import StudyConfig, cells
from tasks.study import run_cell, write_tables


class StudyRequest(Section):
    """Which study to run or continue; this is the form in the Prefect UI."""

    config: str = Field(default="deployments/studies/rq1.toml", title="Settings file of the study")
    """Path of the TOML file, from the checkout's root."""
    overrides: list[str] = Field(default=[], title="Settings to change")
    """Lines like grids.methods.seeds=[0, 1]; they win over the file."""
    tables_only: bool = Field(default=False, title="Only the tables")
    """Only write the tables of the cells that have finished."""

    def settings(self) -> StudyConfig:
        """The settings of this request."""
        return settings.read(StudyConfig, self.config, self.overrides)


class StudySummary(BaseModel):
    """How a study ended."""

    model_config = ConfigDict(frozen=True)

    ran: int
    kept: int
    """Cells that had finished before."""
    folder: str
    table: str
    """Markdown."""


@flow(name="study", persist_result=False)
def study(request: StudyRequest) -> StudySummary:
    """Runs or continues a study."""
    config = request.settings()
    ran = [run_cell(config, cell) for cell in ([] if request.tables_only else cells(config))]
    return StudySummary(ran=sum(ran), kept=len(ran) - sum(ran), folder=config.folder, table=write_tables(config))
