import pytest

from tasks.logins import log_in

PREFECT, MLFLOW = "http://127.0.0.1:4200/api", "http://127.0.0.1:5000"


@pytest.fixture
def var(tmp_path) -> str:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "login.sh").write_text(
        "# how a shell logs in\n"
        f"export PREFECT_API_URL={PREFECT}\nexport PREFECT_API_AUTH_STRING=dealrec:one=\n"
        f"export DEALREC_REGISTRY__TRACKING_URI={MLFLOW}\n"
        "export MLFLOW_TRACKING_USERNAME=dealrec\nexport MLFLOW_TRACKING_PASSWORD=two=\n"
    )
    return str(tmp_path)


def test_a_command_logs_in_to_the_servers_of_make_up(var):
    environment = {"DEALREC_VAR": var, "PREFECT_API_URL": PREFECT, "DEALREC_REGISTRY__TRACKING_URI": MLFLOW}
    named = dict(environment)
    log_in(environment)
    logins = {"MLFLOW_TRACKING_USERNAME": "dealrec", "MLFLOW_TRACKING_PASSWORD": "two="}
    assert environment == {**named, "PREFECT_API_AUTH_STRING": "dealrec:one=", **logins}


def test_no_other_server_is_sent_these_logins(var):
    environment = {"DEALREC_VAR": var, "PREFECT_API_URL": "https://prefect.example/api"}
    named = dict(environment)
    log_in(environment)
    assert environment == named


def test_a_login_that_is_set_stays(var):
    environment = {"DEALREC_VAR": var, "PREFECT_API_URL": PREFECT, "PREFECT_API_AUTH_STRING": "me:mine"}
    log_in(environment)
    assert environment["PREFECT_API_AUTH_STRING"] == "me:mine"


def test_without_make_up_there_is_nothing_to_add(tmp_path):
    environment = {"DEALREC_VAR": str(tmp_path), "PREFECT_API_URL": PREFECT}
    log_in(environment)
    assert "PREFECT_API_AUTH_STRING" not in environment
