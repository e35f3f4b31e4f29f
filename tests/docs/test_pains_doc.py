"""Every failure mode of `docs/guarantees.md` is proved by tests that exist."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from typing import Final

import pytest

from tests.docs.blocks import ROOT, section

TESTS = ROOT / "tests"
MODES = range(1, 21)
Named = tuple[str, str, str]
"""A file below `tests/`, a test, and a case of a parametrized test (or nothing)."""
HELD_BY: Final[Mapping[int, tuple[Named, ...]]] = {
    1: (
        (
            "integration/worker/test_pains.py",
            "test_pain_01_zombie_with_half_of_a_window_never_overwrites_the_whole_object",
            "",
        ),
        (
            "chaos/test_chaos.py",
            "test_nothing_is_lost_or_repeated_by",
            "zombie_with_an_upload_on_its_way",
        ),
        (
            "integration/kafka/test_consumer.py",
            "test_expelled_member_cannot_commit_over_its_successor",
            "",
        ),
    ),
    2: (
        (
            "integration/worker/test_pains.py",
            "test_pain_02_object_found_under_the_key_is_no_delivery_when_it_is_not_the_windows_own",
            "",
        ),
        ("integration/s3/test_storage.py", "test_empty_object_without_a_checksum_is_permanent", ""),
        (
            "integration/s3/test_storage.py",
            "test_object_that_may_not_be_looked_at_already_existed",
            "",
        ),
    ),
    3: (
        (
            "integration/worker/test_pains.py",
            "test_pain_03_refusal_403_parks_the_window_and_commits_nothing_beyond_it",
            "",
        ),
        (
            "integration/s3/test_errors.py",
            "test_permanent_answer_is_named_and_delivers_once_when_somebody_has_acted",
            "",
        ),
        (
            "integration/commands/test_redeliver.py",
            "test_windows_of_a_bucket_that_comes_late_are_redelivered_once_under_their_original_keys",
            "",
        ),
    ),
    4: (
        (
            "unit/worker/test_window_delivery.py",
            "test_object_comes_before_receipt_and_receipt_before_settling",
            "",
        ),
        ("unit/core/test_partition.py", "test_the_offset_moves_on_when_the_window_is_settled", ""),
        (
            "chaos/test_chaos.py",
            "test_nothing_is_lost_or_repeated_by",
            "kill_before_the_put_reaches_s3",
        ),
    ),
    5: (
        (
            "unit/test_pains.py",
            "test_pain_05_replay_splits_where_it_split_before_whatever_time_memory_and_settings_say",
            "",
        ),
        ("property/test_partition.py", "test_every_event_has_one_answer_whatever_crashes", ""),
        (
            "chaos/test_chaos.py",
            "test_nothing_is_lost_or_repeated_by",
            "kill_after_the_put_and_before_its_answer",
        ),
    ),
    6: (
        (
            "integration/worker/test_pains.py",
            "test_pain_06_workers_that_join_and_leave_under_load_lose_and_repeat_nothing",
            "",
        ),
        (
            "unit/core/test_partition.py",
            "test_work_of_an_older_epoch_is_refused_and_changes_nothing",
            "",
        ),
        ("simulation/test_seeds.py", "test_every_event_has_one_answer", ""),
    ),
    7: (
        (
            "integration/worker/test_memory.py",
            "test_minute_of_any_size_takes_no_more_than_its_share",
            "",
        ),
        (
            "integration/worker/test_isolation.py",
            "test_dead_destination_loses_its_oldest_windows_and_no_memory_beyond_its_share",
            "",
        ),
        (
            "unit/core/test_assignment.py",
            "test_at_the_bound_the_largest_open_window_is_closed_early",
            "",
        ),
        (
            "unit/core/test_object_body.py",
            "test_a_quiet_body_costs_its_lines_and_no_compressor",
            "",
        ),
        ("wire/test_s3_options.py", "test_clients_are_shared_and_bounded_and_closed", ""),
    ),
    8: (
        (
            "unit/test_pains.py",
            "test_pain_08_worker_that_is_hours_behind_makes_one_object_a_minute",
            "",
        ),
        ("chaos/test_chaos.py", "test_nothing_is_lost_or_repeated_by", "quiet_run"),
        (
            "integration/worker/test_worker.py",
            "test_thirty_events_of_a_minute_are_thirty_lines_of_one_object_per_destination",
            "",
        ),
    ),
    9: (
        ("unit/core/test_partition.py", "test_a_late_record_joins_the_open_window", ""),
        (
            "unit/core/test_partition.py",
            "test_a_record_that_comes_after_its_minute_was_closed_joins_the_next",
            "",
        ),
        ("unit/core/test_partition.py", "test_a_record_from_the_future_counts_as_now", ""),
        (
            "unit/core/test_partition.py",
            "test_an_object_holds_the_delivered_records_in_offset_order",
            "",
        ),
    ),
    10: (
        ("unit/core/test_partition.py", "test_an_idle_partition_closes_only_after_its_grace", ""),
        (
            "integration/worker/test_worker.py",
            "test_only_committed_records_are_delivered_and_a_control_record_keeps_no_window_open",
            "",
        ),
        (
            "integration/worker/test_monitoring.py",
            "test_what_is_counted_adds_up_with_the_receipts",
            "",
        ),
    ),
    11: (
        (
            "unit/test_pains.py",
            "test_pain_11_clocks_that_go_back_make_neither_more_objects_nor_a_name_twice",
            "",
        ),
        ("unit/core/test_object_body.py", "test_key_is_in_utc_whatever_the_time_zone", ""),
        (
            "unit/core/test_partition.py",
            "test_the_closing_time_is_the_whole_second_of_the_closing",
            "",
        ),
    ),
    12: (
        (
            "integration/worker/test_worker.py",
            "test_thirty_events_of_a_minute_are_thirty_lines_of_one_object_per_destination",
            "",
        ),
        (
            "unit/worker/test_window_delivery.py",
            "test_delivered_receipt_names_the_object_and_the_attempt",
            "",
        ),
    ),
    13: (
        ("property/test_receipt.py", "test_the_counts_are_those_of_the_records", ""),
        (
            "unit/core/test_partition.py",
            "test_offsets_without_records_are_committed_when_the_partition_is_idle",
            "",
        ),
        (
            "unit/core/test_partition.py",
            "test_records_that_no_destination_matches_are_committed_without_a_receipt",
            "",
        ),
        (
            "integration/worker/test_worker.py",
            "test_only_committed_records_are_delivered_and_a_control_record_keeps_no_window_open",
            "",
        ),
    ),
    14: (
        (
            "unit/core/test_retry_policy.py",
            "test_delay_after_a_transient_error_doubles_up_to_a_minute",
            "",
        ),
        ("unit/s3/test_errors.py", "test_error_that_time_heals_is_transient", ""),
        ("integration/s3/test_errors.py", "test_many_faults_in_a_row_end_in_one_object", ""),
        ("contract/test_faust.py", "test_settings_of_the_group_reach_the_consumer", ""),
        ("chaos/test_chaos.py", "test_nothing_is_lost_or_repeated_by", "hanging_s3_is_asked_again"),
        (
            "integration/worker/test_worker.py",
            "test_worker_goes_on_when_a_broker_that_went_away_is_back",
            "",
        ),
    ),
    15: (
        ("wire/test_s3_options.py", "test_credentials_are_renewed_before_they_end", ""),
        (
            "wire/test_s3_options.py",
            "test_role_is_assumed_once_for_all_destinations_that_have_it",
            "",
        ),
        ("wire/test_s3_options.py", "test_failing_sts_is_not_stormed", ""),
    ),
    16: (
        (
            "integration/worker/test_worker.py",
            "test_null_is_skipped_and_what_is_no_json_fails_alone",
            "",
        ),
        (
            "integration/worker/test_security.py",
            "test_records_of_any_bytes_and_size_have_receipts_and_cost_no_neighbour",
            "",
        ),
        (
            "unit/expressions/test_engine.py",
            "test_hostile_event_fails_alone_and_the_next_is_right",
            "",
        ),
    ),
    17: (
        (
            "chaos/test_chaos.py",
            "test_nothing_is_lost_or_repeated_by",
            "uploads_torn_and_damaged_on_their_way",
        ),
        (
            "integration/s3/test_errors.py",
            "test_reset_in_the_middle_of_the_request_is_transient_and_leaves_nothing",
            "",
        ),
        ("integration/s3/test_storage.py", "test_new_object_has_its_type_and_counts", ""),
    ),
    18: (
        ("unit/core/test_router.py", "test_records_go_to_the_destinations_of_their_pipeline", ""),
        ("property/test_object_body.py", "test_no_event_has_a_part_in_the_keys", ""),
        ("property/test_object_body.py", "test_a_key_never_leaves_its_prefix", ""),
        (
            "integration/worker/test_hostile.py",
            "test_no_destination_has_receipts_of_a_foreign_event",
            "",
        ),
    ),
    19: (
        (
            "integration/worker/test_isolation.py",
            "test_nineteen_destinations_keep_their_freshness_beside_a_dead_one",
            "",
        ),
        (
            "integration/worker/test_isolation.py",
            "test_dead_destination_loses_its_oldest_windows_and_no_memory_beyond_its_share",
            "",
        ),
        (
            "integration/worker/test_reload.py",
            "test_destinations_come_go_and_change_under_load_without_a_lost_or_repeated_event",
            "",
        ),
    ),
    20: (
        (
            "contract/test_aiobotocore.py",
            "test_checksum_travels_as_a_header_and_not_behind_the_body",
            "",
        ),
        ("contract/test_aiobotocore.py", "test_no_checksum_is_added_to_ours", ""),
        ("contract/test_aiobotocore.py", "test_refusal_is_one_request_and_a_client_error", ""),
        ("tidy/test_tidy.py", "test_lock_file_pins_hashes_and_names_no_place", ""),
    ),
}


@cache
def functions(file: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {
        node.name: node
        for node in ast.parse((TESTS / file).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def cases(file: str) -> set[str]:
    """Return the functions that the file's tests are parametrized by: those in a table."""
    return {
        element.id
        for node in ast.parse((TESTS / file).read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple)
        for element in node.value.elts
        if isinstance(element, ast.Name)
    }


def test_page_has_all_twenty_failure_modes_and_each_has_tests() -> None:
    text = section((ROOT / "docs" / "guarantees.md").read_text(), "Failure modes")
    rows = re.findall(r"^\| (\d+) \| .{20,} \| .{20,} \|$", text, re.MULTILINE)
    assert [int(number) for number in rows] == list(MODES) == list(HELD_BY)


@pytest.mark.parametrize("mode", MODES)
def test_failure_mode_is_proved_by_tests_that_exist(mode: int) -> None:
    assert HELD_BY[mode], "no test is named"
    for file, test, case in HELD_BY[mode]:
        assert test in functions(file), f"{file} has no test {test}"
        if case:
            assert case in cases(file), f"{file} has no case {case}"


def test_each_test_of_a_failure_mode_is_in_its_row() -> None:
    for file in ("unit/test_pains.py", "integration/worker/test_pains.py"):
        for test in functions(file):
            if found := re.match(r"test_pain_(\d\d)_", test):
                assert (file, test, "") in HELD_BY[int(found[1])], f"{test} is not in its row"
            else:
                assert not test.startswith("test_"), f"{test} does not name its failure mode"
