"""Registers tonight's model and promotes it if it is better."""

from prefect import flow
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from dealrec_core.lake.nights import Night, Snapshot
from tasks import markup
from tasks.nights import NightRequest, one_night
from tasks.stages import promotion
from tasks.stages.promotion import Approval
from tasks.tonight import Tonight


class Word(RunInput):
    """The form of a paused run, in which a person decides on a better candidate."""

    approve: bool = Field(title="Make it champion")
    comment: str = Field(default="", title="Comment")
    who: str = Field(default="someone", title="Your name")


@flow(name="promote", flow_run_name="promote {request}", result_serializer="json")
def promote(request: NightRequest = NightRequest()) -> Snapshot:
    """Registers tonight's model, and promotes it if it is better. With `gate.approval`, a person must agree, too."""
    with one_night(request) as night:
        is_open = night.find("promotion") is None and promotion.approval_of(night) is None
        if night.config.gate.approval and is_open and promotion.verdict_of(Tonight(night)).promoted:
            promotion.record_approval(night, _ask(night))
        return promotion.promote(night)


def _ask(night: Night) -> Approval:
    """Pauses this run until someone resumes it in the Prefect UI."""
    hours, reason = night.config.gate.approval_hours, promotion.verdict_of(Tonight(night)).reason
    form = Word.with_initial_data(description=f"**{night.name}** {markup.markdown(reason)} Make it champion?")
    try:
        word = pause_flow_run(wait_for_input=form, timeout=int(hours * 3600), poll_interval=5)
    except FlowPauseTimeout:
        return Approval(approve=False, comment=f"no answer within {hours:g} hours", who="nobody")
    return Approval(approve=word.approve, comment=word.comment, who=word.who)
