"""What the panels promise a person, and the tests that hold each promise. A test that is renamed is renamed here."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PROMISES = {
    "a click is answered by the page alone, and a kernel that is busy is said": [
        "widgets/test_studio_in_browser::test_what_is_asked_for_is_said_at_once_though_no_kernel_answers",
        "widgets/test_frame_in_browser::test_a_kernel_that_does_not_answer_is_said_and_unsaid",
    ],
    "a move is seen after one evaluation at most, moves never queue, and the last value wins": [
        "live/test_follower::test_the_first_preview_of_a_guidance_move_takes_no_evaluation",
        "live/test_traces::test_the_last_move_of_a_drag_waits_for_a_layer_at_most",
        "widgets/test_studio::test_a_thousand_moves_leave_one_waiting_and_the_last_is_shown",
        "widgets/test_studio::test_what_the_picture_does_not_need_comes_after_it",
    ],
    "cancel stops within a step, and the last preview stays and says where it stopped": [
        "live/test_follower::test_an_evaluation_that_nobody_wants_ends_between_two_layers",
        "widgets/test_studio::test_cancel_keeps_the_last_frame_and_says_where",
    ],
    "cancel works beside a busy cell where the kernel can, and where it cannot the panel says so": [
        "widgets/test_studio_in_jupyterlab::test_cancel_beside_a_busy_cell_keeps_the_preview_and_says_where_it_stopped",
        "widgets/test_in_a_kernel::test_beside_a_busy_cell_messages_are_handled_where_the_kernel_can_and_a_thread_is_always_seen",
    ],
    "whatever goes wrong is an alert with details to copy, and nothing leaks into other cells": [
        "widgets/test_leaf::test_what_goes_wrong_in_a_message_is_said_in_the_panel",
        "widgets/test_leaf::test_a_value_that_no_trait_takes_is_said_and_set_back",
        "widgets/test_studio::test_a_recipe_that_cannot_be_made_is_an_alert_and_the_next_one_clears_it",
        "widgets/test_frame_in_browser::test_a_problem_is_an_alert_with_a_next_step_and_can_be_dismissed",
        "widgets/test_studio_in_jupyterlab::test_what_breaks_says_what_why_and_what_next",
    ],
    "keys typed in a panel leave the cells alone, and arrow keys work": [
        "widgets/test_frame_in_browser::test_keys_stay_in_the_panel",
        "widgets/test_studio_in_jupyterlab::test_keys_typed_in_the_panel_leave_the_notebook_alone",
        "widgets/test_studio_in_jupyterlab::test_arrow_keys_move_a_slider",
        "widgets/test_in_notebook7::test_arrow_keys_move_sliders_and_joints_and_letters_leave_the_cells_alone",
    ],
    "recipe, PNG, recipe and code are one": [
        "recipe/test_recipe::test_json_and_code_give_an_equal_recipe",
        "images/test_images::test_a_png_carries_pictures_each_once_and_opens_anywhere",
        "widgets/test_studio_in_jupyterlab::test_the_python_that_it_shows_makes_an_equal_recipe",
        "widgets/test_studio_in_jupyterlab::test_a_saved_picture_dropped_back_brings_its_recipe",
    ],
    "a reload shows the same, and a kernel that was restarted is said": [
        "widgets/test_studio_in_jupyterlab::test_a_reload_brings_the_picture_and_the_controls_back_and_little_was_saved",
        "widgets/test_studio_in_jupyterlab::test_a_kernel_that_was_restarted_is_said",
    ],
    "a saved notebook keeps 50 KB of a panel with its state, and 5 KB without": [
        "widgets/test_saved_state::test_a_notebook_keeps_less_than_fifty_kilobytes_of_a_studio",
        "widgets/test_saved_state::test_without_the_state_it_keeps_less_than_five",
        "widgets/test_leaf::test_the_state_that_a_notebook_saves_is_small",
    ],
    "360 pixels are enough, and every theme can be read": [
        "widgets/test_studio_in_browser::test_no_tab_breaks_an_accessibility_rule_in_any_theme_or_scrolls_sideways",
        "widgets/test_studio_in_jupyterlab::test_it_is_dark_in_the_dark_theme_and_fits_360_pixels",
        "widgets/test_studio_in_jupyterlab::test_nothing_in_it_breaks_an_accessibility_rule_seriously",
    ],
    "a photo of 12 MB is made smaller, taken, and said to be": [
        "widgets/test_map::test_a_large_photo_is_reduced_and_said_to_be",
        "widgets/test_pose_in_browser::test_a_large_photo_is_made_smaller_and_it_is_said",
        "widgets/test_leaf::test_a_large_upload_comes_in_parts_and_arrives_whole",
    ],
    "all of it runs in marimo, and in Colab in the foreground, which is said": [
        "widgets/test_in_marimo::test_every_leaf_is_seen_and_a_dragged_wrist_is_read_by_a_cell",
        "widgets/test_painted_in_marimo::test_a_stroke_is_read_by_a_cell_and_the_maps_are_painted",
        "widgets/test_studio_in_marimo::test_it_is_seen_it_follows_and_a_cell_that_runs_again_closes_the_panel_before",
        "widgets/test_studio::test_in_colab_pictures_are_made_in_the_foreground",
    ],
    "a panel that opens needs no download, and shows a draft before its first picture": [
        "widgets/test_studio::test_a_draft_is_seen_before_the_first_picture",
        "widgets/test_studio_in_jupyterlab::test_it_opens_with_its_picture_and_the_figure",
    ],
}


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_has_its_tests(promise):
    for name in PROMISES[promise]:
        module, _, function = name.partition("::")
        tree = ast.parse((TESTS / f"{module}.py").read_text(encoding="utf-8"))
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name
