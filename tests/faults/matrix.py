"""The fault matrix: what fails in which component, how it is made to fail, what must hold then, and the test that shows it.

`python tests/faults/matrix.py` writes the table into docs/operations.md.
"""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- written by tests/faults/matrix.py -->\n", "<!-- end of the matrix -->\n"
LAKE, LANGUAGE, UP = "tests/dealrec_core/lake", "tests/dealrec_core/language", "tests/deployments"


class Cell(NamedTuple):
    """One component under one fault."""

    component: str
    fault: str
    injected: str
    expected: str
    test: str
    """File and name of the test."""

    @property
    def file(self) -> Path:
        """The file of the test."""
        return ROOT / self.test.split("::")[0]


CELLS = [
    Cell("ingest", "kill", "at each commit", "ledger and rows of an undisturbed ingest",
         f"{LAKE}/test_ledger.py::test_the_ledger_is_that_of_an_undisturbed_ingest_after_a_kill_at_any_commit"),
    Cell("ingest", "answer of a commit lost", "a commit that succeeded raises", "files stay, rows are there once",
         f"{LAKE}/test_commit.py::test_an_ingest_whose_answer_was_lost_reports_what_it_wrote"),
    Cell("ingest on S3", "no answer to any commit", "a proxy before a real S3 server", "no row lost or doubled",
         f"{LAKE}/test_s3.py::test_an_ingest_that_hears_no_answer_to_any_commit_loses_and_doubles_nothing"),
    Cell("ingest on S3", "two at once", "two processes", "no row lost or doubled",
         f"{LAKE}/test_s3.py::test_racing_ingests_of_the_same_files_lose_and_double_nothing"),
    Cell("append", "answer of a commit lost", "a commit that succeeded raises", "rows are there once",
         f"{LAKE}/test_commit.py::test_rows_that_are_appended_with_a_lost_answer_are_there_once"),
    Cell("append", "interrupt in a commit", "KeyboardInterrupt", "no file is removed that may count",
         f"{LAKE}/test_commit.py::test_an_interrupt_during_a_commit_removes_no_file_that_the_commit_may_have_added"),
    Cell("tables", "write fails", "the Parquet writer raises", "its file is removed, the error is raised",
         f"{LAKE}/test_commit.py::test_a_data_file_whose_write_failed_is_removed_and_the_error_stays"),
    Cell("tables", "disk full", "ENOSPC, /dev/full", "place, free space and next step in one line",
         "tests/faults/test_full_disk.py::test_a_data_file_of_a_draft_as_the_table_reader_tells_it"),
    Cell("commit", "disk full", "the table library's own text", "one line; the table as it was",
         "tests/faults/test_full_disk.py::test_a_commit_as_the_table_library_tells_it"),
    Cell("small files", "disk full", "ENOSPC", "one line; the old content stays",
         "tests/faults/test_full_disk.py::test_a_small_file"),
    Cell("lake", "power cut: last commit gone, empty, torn", "files cut", "found, reported, repaired from its copy",
         f"{LAKE}/test_checkup.py::test_a_lost_last_commit_is_found_told_to_every_reader_and_written_again"),
    Cell("lake", "power cut: data file gone, empty, torn", "files cut", "found; no reader panics",
         f"{LAKE}/test_checkup.py::test_a_damaged_data_file_is_found_and_no_reader_panics"),
    Cell("lake", "power cut: order of writes", "the order of fsync calls", "data before commit before copy",
         f"{LAKE}/test_commit.py::test_data_files_are_on_the_disk_before_the_commit_that_names_them_and_then_that_commit"),
    Cell("nights", "power cut: record or manifest torn", "files cut", "reported in one line, done again",
         f"{LAKE}/test_checkup.py::test_a_damaged_stage_record_is_told_in_a_line_and_its_stage_is_done_again"),
    Cell("tables", "bit flip", "80 places of a data file", "refused before a row is read",
         f"{LAKE}/test_sums.py::test_every_flipped_bit_of_a_recorded_table_is_found_before_a_row_is_read"),
    Cell("tables", "changed with the list of hashes", "both rewritten", "refused by the record",
         f"{LAKE}/test_sums.py::test_a_file_changed_together_with_the_list_of_hashes_is_refused_by_the_record"),
    Cell("models", "changed with the list of hashes", "both rewritten", "refused by the record",
         f"{LAKE}/test_sums.py::test_a_published_folder_changed_with_its_sums_is_refused"),
    Cell("lake", "changes that no night reads", "bit flips", "found by the scrub",
         f"{LAKE}/test_sums.py::test_a_scrub_finds_what_no_night_reads_any_more_and_is_made_again_until_it_is_mended"),
    Cell("upkeep", "two ingests beside it", "three processes", "no row lost or doubled",
         f"{LAKE}/test_upkeep.py::test_compaction_beside_two_ingests_loses_and_doubles_nothing"),
    Cell("erasure", "kill, torn write, no space", "at the file-system calls, by a preloaded library", "continues when it is run again",
         "tests/faults/test_erasure_points.py::test_an_erasure_goes_on_after_a_kill_a_torn_write_or_a_full_disk_at_any_call"),
    Cell("erasure", "torn files of killed writers", "files cut", "ends, and names them",
         f"{LAKE}/test_erasure.py::test_files_that_killed_writers_left_torn_stop_no_erasure_and_are_named_until_they_are_removed"),
    Cell("surrogate", "NaN gradient", "a loss with a NaN slope", "no weight changes; says what to lower",
         "tests/dealrec_core/surrogate/test_training.py::test_a_gradient_that_is_not_finite_changes_no_weight_and_says_what_to_lower"),
    Cell("surrogate", "NaN in the warm start", "a weight set", "refused, with the sample_ids",
         "tests/dealrec_core/surrogate/test_training.py::test_a_warm_start_with_a_nan_is_refused_and_not_taken_for_the_best_one"),
    Cell("surrogate", "out of memory", "large batches raise", "halves, same weights",
         "tests/dealrec_core/surrogate/test_training.py::test_a_batch_that_does_not_fit_the_memory_is_computed_in_parts_with_the_same_result"),
    Cell("influence", "NaN", "weights set", "stops, with the sample_ids",
         "tests/tasks/test_naming.py::test_a_number_that_is_not_finite_is_told_with_the_ids_of_its_samples"),
    Cell("influence", "out of memory", "three errors of memory", "half of the tokens at once",
         f"{LANGUAGE}/test_memory.py::test_work_begins_anew_with_half_of_the_tokens_until_it_fits"),
    Cell("effort", "NaN", "a weight set", "stops, with the sample_id",
         "tests/dealrec_core/recommenders/test_backend.py::test_an_effort_that_is_not_finite_names_the_sample"),
    Cell("effort", "out of memory", "large batches raise", "half of the tokens, same efforts",
         "tests/dealrec_core/recommenders/test_backend.py::test_effort_goes_on_with_smaller_batches_where_memory_runs_out"),
    Cell("fine-tuning", "NaN loss", "a loss of NaN", "stops, with the sample_ids",
         f"{LANGUAGE}/test_training.py::test_a_loss_or_quality_that_is_not_finite_says_which_setting_to_lower"),
    Cell("fine-tuning", "NaN gradient", "a loss with a NaN slope", "reaches no checkpoint",
         f"{LANGUAGE}/test_training.py::test_a_gradient_that_is_not_finite_reaches_no_checkpoint"),
    Cell("fine-tuning", "out of memory", "three errors of memory", "halves, same weights",
         f"{LANGUAGE}/test_training.py::test_a_batch_that_does_not_fit_is_computed_in_parts_as_one_step"),
    Cell("fine-tuning", "kill", "SIGKILL", "same weights from the checkpoint",
         f"{LANGUAGE}/test_fine_tuning.py::test_kill_9_loses_only_the_steps_since_the_checkpoint"),
    Cell("fine-tuning", "torn checkpoint", "files cut", "the older one is used",
         f"{LANGUAGE}/test_checkpoints.py::test_a_torn_checkpoint_is_passed_over"),
    Cell("models", "code in the folder", "planted", "never run, never asked for",
         f"{LANGUAGE}/test_language_model.py::test_code_of_a_model_folder_is_never_run_nor_asked_for"),
    Cell("models", "pickled weights", "planted", "refused in one line",
         f"{LANGUAGE}/test_language_model.py::test_a_model_of_pickled_weights_is_refused_in_one_line"),
    Cell("registry", "clock jumps", "an hour back, a year ahead", "the last decision holds",
         f"{LAKE}/test_promotions.py::test_the_last_word_wins_whatever_the_clock_says"),
    Cell("registry", "rollback repeated", "sent twice", "the same champion",
         f"{LAKE}/test_promotions.py::test_a_rollback_that_is_sent_again_changes_nothing_until_there_is_a_new_promotion"),
    Cell("registry", "killed before the alias moves", "the alias stays", "healed at the next start",
         "tests/tasks/test_champions.py::test_an_alias_that_a_killed_promotion_did_not_move_is_healed_at_the_next_start"),
    Cell("registry", "MLflow gone", "requests raise", "rolls back; the next start moves the alias",
         "tests/tasks/test_champions.py::test_a_rollback_goes_back_though_mlflow_does_not_answer_and_the_next_start_moves_the_alias"),
    Cell("night", "kill", "SIGKILL, three times", "ends as an undisturbed one",
         "tests/flows/test_kills.py::test_a_night_that_was_killed_three_times_ends_as_an_undisturbed_one"),
    Cell("night", "worker killed", "SIGKILL", "marked, and started again by itself",
         f"{UP}/test_zombie.py::test_a_killed_night_is_marked_within_ninety_seconds_and_goes_on_by_itself"),
    Cell("night", "Prefect gone", "requests raise", "waits two minutes, then ends in one line",
         "tests/flows/test_own_server.py::test_a_prefect_server_that_is_gone_is_told_in_one_line_with_what_to_do"),
    Cell("night", "told to end while Prefect is gone", "SIGTERM and Ctrl-C while the process waits", "ends within ten seconds, in one line",
         "tests/flows/test_ending.py::test_a_command_that_is_told_to_end_waits_for_a_server_that_is_gone_no_longer_than_its_grace"),
    Cell("night", "hostile titles and ids", "57 titles, 20 ids through all stages", "inert in artifacts, logs, report, emitted files",
         f"{UP}/test_events.py::test_an_emitted_coreset_starts_fine_tuning_and_a_candidate_its_evaluation_and_the_gate"),
    Cell("secrets", "planted", "S3 key, alarm token, all of `make up`", "in no file, log, database or command line",
         f"{UP}/test_access.py::test_only_this_user_reads_the_secrets_and_no_command_line_or_log_shows_one"),
    Cell("make up", "a service dies", "a stand-in is killed four times", "named and started again three times, then all are stopped",
         f"{UP}/test_up.py::test_a_service_that_dies_is_named_and_started_again_and_at_its_fourth_end_the_others_are_stopped"),
    Cell("make up", "a worker and Prefect die together", "stand-ins are killed", "started again, Prefect first",
         f"{UP}/test_up.py::test_a_worker_that_ends_together_with_prefect_is_started_again_after_it"),
    Cell("make up", "a service hangs at Ctrl-C", "stand-ins that ignore signals", "ends, nothing is left running",
         f"{UP}/test_up.py::test_it_ends_on_a_signal_also_where_every_service_hangs_and_leaves_nothing_running"),
    Cell("access", "no login", "every route and socket", "health, ready and server info alone",
         f"{UP}/test_access.py::test_prefect_answers_no_route_but_health_without_a_login"),
    Cell("access", "foreign page", "a foreign Origin", "told nothing", f"{UP}/test_access.py::test_a_foreign_page_is_told_nothing"),
    Cell("terminal", "hostile titles and ids", "57 titles, 20 ids", "shown to the letter",
         "tests/faults/test_hostile_text.py::test_every_command_prints_hostile_rows_to_the_letter"),
    Cell("pages", "hostile titles and ids", "57 titles, 20 ids", "shown to the letter",
         "tests/faults/test_hostile_text.py::test_a_page_and_an_artifact_show_a_text_to_the_letter"),
    Cell("emitted files", "control tokens and headings", "57 titles, 20 ids", "inert for an outside trainer",
         "tests/faults/test_hostile_text.py::test_an_outside_trainer_finds_titles_and_nothing_else_in_emitted_files"),
]  # fmt: skip


def table() -> str:
    """The matrix as Markdown; the tests stand in the code."""
    rows = [f"| {cell.component} | {cell.fault} | {cell.injected} | {cell.expected} |" for cell in CELLS]
    return "\n".join(["| component | fault | how it is made | what must hold |", "|---|---|---|---|", *rows]) + "\n"


def page_with_table(page: str) -> str:
    """The page with today's matrix between its marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
