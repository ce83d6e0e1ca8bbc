import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from dealrec_core.errors import ServerGone
from flows.own_server import told_when_gone

ADDRESS = "http://127.0.0.1:9/api"


def refused(address: str) -> httpx.ConnectError:
    return httpx.ConnectError("All connection attempts failed", request=httpx.Request("GET", address))


@pytest.mark.parametrize("error", [refused(f"{ADDRESS}/flow_runs"), RuntimeError(f"Failed to reach API at {ADDRESS}/")])
def test_a_prefect_server_that_is_gone_is_told_in_one_line_with_what_to_do(error):
    with (
        temporary_settings({PREFECT_API_URL: ADDRESS}),
        pytest.raises(ServerGone, match="start it and run the command again: finished stages are kept"),
        told_when_gone(),
    ):
        raise error


@pytest.mark.parametrize("error", [refused("http://127.0.0.1:10/models"), RuntimeError("no kernel image")])
def test_an_error_of_anything_else_stays_as_it_is(error):
    with temporary_settings({PREFECT_API_URL: ADDRESS}), pytest.raises(type(error)), told_when_gone():
        raise error
