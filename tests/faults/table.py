"""The rows of the fault matrix: a fault, what is promised, the tests that hold it. docs/faults.md is made from it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "FaultRow", "page"]

LOOP, RUNS, RANKS = "tests/test_train_loop.py::", "tests/test_faults_runs.py::", "tests/test_train_ranks.py::"
DATA, CORPUS, TRANSFER = "tests/test_train_data.py::", "tests/test_train_corpus.py::", "tests/test_train_tools.py::"
PLAN, RECORD = "tests/test_theory_plan.py::", "tests/test_theory_record.py::"
SAVING = "tests/test_train_saving.py::"
HOSTILE, KEPT = "tests/test_faults_hostile.py::", "tests/test_faults_kept.py::"


@dataclass(frozen=True, kw_only=True)
class FaultRow:
    """One row of the matrix.

    Attributes:
        number: Its number.
        fault: What goes wrong.
        promise: What happens then.
        tests: Node ids, without parameters, of the tests that hold it; all of their cases must pass.
    """

    number: int
    fault: str
    promise: str
    tests: tuple[str, ...]


def _row(number: int, fault: str, promise: str, *tests: str) -> FaultRow:
    return FaultRow(number=number, fault=fault, promise=promise, tests=tests)


ROWS = (
    _row(
        1,
        "kill -9 while a checkpoint is written",
        "The newest complete checkpoint resumes, and ends bit for bit as a run that was never killed; a torn one is "
        "passed over with a line. Tried before every file operation of a save that keeps one checkpoint, and, by "
        "`python -m tests.faults.kills`, at 200 random moments.",
        f"{RUNS}test_kill_9_at_every_file_operation_of_a_save",
        f"{LOOP}test_kill_9_then_resume_by_command_line",
        f"{LOOP}test_a_checkpoint_is_replaced_and_never_gone",
    ),
    _row(
        2,
        "kill -9 of a rank",
        "The other ranks end with exit code 75 and one line that names the lost rank, the step and the collective; "
        "restarted, the run ends bit for bit as if never stopped.",
        f"{RUNS}test_a_rank_that_is_killed_is_named_with_step",
        "tests/test_train_rank_kills.py::test_a_killed_rank_ends_the_others_and_the_run_goes_on_as_if_never_stopped",
    ),
    _row(
        3,
        "a rank stalls",
        "After --rank-timeout, five minutes, the others end, with the same line.",
        f"{RUNS}test_a_rank_that_stalls_is_named_with_step_and_collective",
    ),
    _row(
        4,
        "SIGTERM, SIGUSR1, SIGHUP",
        "Whatever the run is at, validation, growth, warming or a save: after the step all ranks agree to stop, a "
        "checkpoint is written, and the exit code is 143 (129 for SIGHUP, which nohup keeps out).",
        f"{RUNS}test_a_signal_at_any_moment_is_seen_after_the_step",
        f"{RUNS}test_a_run_under_nohup_outlives_its_terminal",
        f"{LOOP}test_a_signal_finishes_the_step_saves_and_says_so",
    ),
    _row(
        5,
        "a second signal while it saves",
        "The save is finished; nothing begins anew.",
        f"{RUNS}test_a_second_signal_while_it_saves_begins_nothing_anew",
    ),
    _row(
        6,
        "Ctrl-C in a notebook",
        "Exit code 130 as SystemExit; signal handlers, lock and threads are given back, and the next cell resumes.",
        f"{RUNS}test_ctrl_c_in_a_notebook_leaves_a_run_to_go_on_with",
    ),
    _row(
        7,
        "resume in the same world",
        "Losses, weights, moments and batches are bit for bit those of a run never stopped "
        "(CPU, same number of threads).",
        f"{LOOP}test_resume_is_bitwise",
    ),
    _row(
        8,
        "resume before, at and after each expansion",
        "The same, before any step of a run that grows twice, the new layers' first Adam step included.",
        f"{RUNS}test_stopped_before_any_step_of_two_expansions_it_ends_bit_for_bit",
        f"{LOOP}test_resume_across_other_expansions",
    ),
    _row(
        9,
        "kill -9 while it grows",
        "Every checkpoint is wholly before or wholly after; the run ends bit for bit.",
        f"{RUNS}test_killed_while_it_grows_a_run_is_wholly_before_or_wholly_after",
    ),
    _row(
        10,
        "another number of ranks",
        "What one rank wrote two read, and the reverse, to the last bit; batches are the same.",
        f"{RANKS}test_a_checkpoint_is_read_by_any_number_of_ranks",
        f"{RANKS}test_rows_and_batches_are_divided_without_rest",
    ),
    _row(
        11,
        "ranks do not divide the batch",
        "Refused in one line of one rank, before anything is written.",
        f"{RANKS}test_a_refusal_is_one_line_of_one_rank_and_ends_all",
    ),
    _row(
        12,
        "plan, learning rate or settings edited before resume",
        "Refused, with what it was and is. On purpose: `latebloom branch`, whose record names the new plan.",
        f"{LOOP}test_edited_settings_that_decide_numbers_are_refused",
        f"{LOOP}test_refusals_leave_everything_as_it_was",
        "tests/test_train_branch.py::test_a_branch_of_a_grown_run",
    ),
    _row(
        13,
        "a file of a checkpoint or shard is short or missing",
        "File, expected and actual bytes are named; resume falls back to the checkpoint before.",
        f"{LOOP}test_torn_and_changed_checkpoints_are_passed_over",
        f"{LOOP}test_verify_says_what_a_checkpoint_is",
        f"{DATA}test_damaged_data_is_named",
        f"{RANKS}test_rows_that_are_missing_changed_or_unknown_are_refused",
    ),
    _row(
        14,
        "a bit flips",
        "Found by SHA-256, in checkpoints and in shards.",
        f"{LOOP}test_torn_and_changed_checkpoints_are_passed_over",
        f"{DATA}test_a_changed_token_anywhere_in_foreign_shards_is_noticed",
        f"{DATA}test_damaged_data_is_named",
    ),
    _row(
        15,
        "files of another moment under an old manifest",
        "Refused: name, manifest, state, plan and weights must be of one moment.",
        f"{RUNS}test_files_of_another_moment_under_an_old_manifest_are_refused",
        f"{LOOP}test_a_manifest_of_another_moment_is_refused",
    ),
    _row(
        16,
        "files from strangers",
        "Nothing executes, nothing is written outside the command's own directory, memory and time are bounded, and "
        "the answer is one line: plans, manifests, checkpoints, tokenizers, shards, event files, CSV, JSON lines, "
        "Parquet, Hugging Face folders, under an audit hook with a canary.",
        f"{HOSTILE}test_a_hostile_input_does_nothing",
        f"{HOSTILE}test_the_watch_sees_what_it_should",
        f"{HOSTILE}test_there_are_inputs_of_every_kind",
    ),
    _row(
        17,
        "a path that leads out: `../`, absolute, a link",
        "Refused; no link is followed for writing, and nothing that was not made here is removed.",
        f"{LOOP}test_links_are_not_followed",
        f"{DATA}test_damaged_data_is_named",
        f"{TRANSFER}test_a_plans_name_never_leads_out_of_the_runs",
        f"{RUNS}test_checkpoints_may_be_linked_to_a_directory_of_their_own",
        f"{KEPT}test_what_is_the_users_stays",
    ),
    _row(
        18,
        "the disk is full",
        "One line with bytes needed and free; the last good checkpoint stays.",
        f"{LOOP}test_disk_full_is_one_line_and_the_old_checkpoint_stays",
        f"{LOOP}test_a_full_disk_and_a_diverged_run_are_one_line_each",
    ),
    _row(
        19,
        "the disk is too small",
        "Said before the first step, with bytes free and needed.",
        f"{RUNS}test_too_little_disk_is_said_before_the_first_step",
    ),
    _row(
        20,
        "pruning",
        "No checkpoint is removed before a newer one is complete; two are kept unless fewer are asked for.",
        f"{LOOP}test_a_checkpoint_is_replaced_and_never_gone",
        f"{LOOP}test_what_was_just_saved_is_kept_whatever_lies_beside_it",
        f"{LOOP}test_a_checkpoint_that_cannot_be_removed_does_not_end_the_run",
    ),
    _row(
        21,
        "weights change while a save goes on",
        "A checkpoint is of one moment: saves are waited for, or, under `--save-behind`, write a copy, one at a time; "
        "one that fails behind stops all ranks after the same step.",
        f"{RUNS}test_a_checkpoint_is_of_one_moment",
        f"{SAVING}test_what_is_written_behind_is_the_moment_of_its_step",
        f"{SAVING}test_a_failure_behind_stops_the_run_and_what_was_saved_is_good",
        f"{SAVING}test_a_failure_of_one_rank_behind_stops_all_after_the_same_step",
    ),
    _row(
        22,
        "a loss, gradient or weight that is no number",
        "All ranks stop before the update, naming step, batch and seed; no such weight is saved, the last good "
        "checkpoint stays.",
        f"{LOOP}test_not_a_number_stops_before_the_update",
        f"{LOOP}test_weights_that_are_not_finite_are_never_saved",
        f"{RANKS}test_a_loss_that_is_not_finite_on_one_rank_stops_all_before_the_update",
        "tests/test_faults_numbers.py::test_extreme_numbers_are_right_or_refused",
        "tests/test_faults_numbers.py::test_extreme_gradients",
        "tests/test_faults_numbers.py::test_a_huge_learning_rate_ends_in_one_line",
    ),
    _row(
        23,
        "the loss jumps after an expansion",
        "It is a row of the record (`loss_after_growth`), and `latebloom branch` goes back to before it with another "
        "way of growing.",
        f"{RUNS}test_a_jump_after_growth_is_in_the_record_and_can_be_taken_back",
    ),
    _row(
        24,
        "two processes, one directory",
        "The second is refused, naming the first; the system frees the lock of one "
        "that ended. This holds for runs, data, exports and demos.",
        f"{LOOP}test_one_run_directory_one_process",
        f"{LOOP}test_a_lock_that_says_something_else_is_a_line",
        f"{LOOP}test_a_file_system_without_locks_keeps_nobody_out",
        f"{KEPT}test_one_process_makes_a_directory",
    ),
    _row(
        25,
        "data changed, short, or with unknown tokens",
        "Named by file and token; resume refuses other data.",
        f"{DATA}test_damaged_data_is_named",
        f"{DATA}test_what_does_not_fit_the_plan_is_refused",
        f"{RUNS}test_other_data_are_refused_at_resume",
    ),
    _row(
        26,
        "data are exhausted",
        "Refused at the start unless `--repeat-data` allows epochs, each in another order.",
        f"{DATA}test_what_does_not_fit_the_plan_is_refused",
        f"{DATA}test_an_epoch_sees_every_window_once_and_the_next_in_another_order",
    ),
    _row(
        27,
        "tensors are missing or unknown",
        "Refused, naming the tensor: weights and optimizer state are loaded by name.",
        f"{LOOP}test_a_missing_weight_is_one_line",
        f"{LOOP}test_a_state_that_does_not_fit_is_refused",
        f"{LOOP}test_weights_of_another_depth_are_one_line",
    ),
    _row(
        28,
        "a plan that cannot be",
        "JSON path, value, rule and fix; fuzzing finds no other exception.",
        f"{PLAN}test_refusals",
        f"{PLAN}test_what_is_not_a_plan_at_all",
        f"{PLAN}test_fuzz_raises_nothing_but_input_errors",
        f"{PLAN}test_fuzz_of_raw_text",
        f"{PLAN}test_published_schema_admits_plans_and_refuses_others",
    ),
    _row(
        29,
        "settings of another type",
        'TOML, JSON and YAML are read typed: `"1e-3"` is no number, 1 no truth; YAML is that of 1.2, where `1e-3` is a '
        "number and `no` a word, and a key that stands twice is refused.",
        f"{KEPT}test_settings_are_read_typed",
        "tests/test_settings.py::test_yaml",
    ),
    _row(
        30,
        "a record torn by a crash",
        "The torn last line is dropped, steps that were repeated count once, damage "
        "elsewhere is named by line; rows of Parquet are checked too.",
        f"{RECORD}test_torn_last_line_is_dropped_and_resumed_steps_count_once",
        f"{RECORD}test_damage_elsewhere_is_named_by_line",
        f"{RECORD}test_rows_of_parquet_are_checked",
    ),
    _row(
        31,
        "a figure's record is missing",
        "The figure fails, naming it, and draws nothing.",
        "tests/test_figures.py::test_a_missing_record_is_named_and_nothing_is_drawn",
        "tests/test_figures.py::test_committed_records_carry_the_digest_of_their_plan",
    ),
    _row(
        32,
        "no GPU, no network, no HOME, a folder that cannot be written",
        "Defaults work; one line says what cannot be written.",
        f"{RUNS}test_without_home_network_and_gpu_the_defaults_work",
        f"{RUNS}test_what_cannot_be_written_is_one_line",
    ),
)


def page() -> str:
    """docs/faults.md."""
    lines = [
        "# What may go wrong, and what happens then", "",
        "`make faults` runs these rows, on two cores and without a GPU, and prints which of them hold. The page is "
        "made from `tests/faults/table.py` by `python -m tests.faults --page`.", "",
        "| # | fault | promised | held by |", "|---|---|---|---|",
    ]  # fmt: skip
    for row in ROWS:
        tests = "<br>".join(f"`{test.rpartition('::')[2]}`" for test in row.tests)
        lines.append(f"| {row.number} | {row.fault} | {row.promise} | {tests} |")
    return "\n".join([*lines, *MORE])


MORE = [
    "",
    "## Killed at random",
    "",
    "`python -m tests.faults.kills --out DIR` ends training, online expansions, branches, data preparation and "
    "studies by kill -9 at random moments, takes each up again as its user would, and compares what it leaves with "
    "the same work left alone. Stopped, it goes on. The committed record is `paper_figures/data/kills.parquet`, drawn "
    "by `latebloom figures --only kills`.",
    "",
    "## What files say of you and your machine",
    "",
    "| file | says | does not say |",
    "|---|---|---|",
    "| record (`record.jsonl`, Parquet) | the run directory's own name, the processor's or GPU's kind and number of "
    "threads, versions of Python and of four libraries, the commit of a checkout, settings | paths, host, user |",
    "| checkpoint | plan, step, seconds of training, digests | paths, host, user, time of day |",
    "| `report.html` | what record and plan say | paths, host, user |",
    "| export (model card, `plan.json`, `config.json`) | plan, curve, digests, versions, commit, seed | paths, host, "
    "user, the machine |",
    "| plan | its name and its reasons, as you gave them | paths, host, user |",
    "| shards (`manifest.json`) | tokenizer, counts, digests | paths, names of documents |",
    "| figures | numbers of records | paths, time |",
    "",
    "Three files of a run's directory are for this machine, and no part of what is shared: `data.txt` (where the "
    "shards are), `config.json` (settings as given, a path of `--init-from` among them) and `lock` (host and process). "
    "TensorBoard's own event files have the host's name in theirs; W&B and Trackio add to a run what their clients "
    "add. An export takes none of them along.",
    "",
    "## Where checkpoints are",
    "",
    "`checkpoints` in a run's directory may be a link to an empty directory on another disk: the run puts its random "
    "name (`id.txt`) there, and prunes nothing in a directory that holds another name or anything else. No other link "
    "in a run's directory is accepted. W&B and Trackio know a resumed run again by the same name.",
    "",
]


if __name__ == "__main__":
    print(page(), end="")
