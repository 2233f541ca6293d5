//! What every store guarantees, tested on each: a real MongoDB and the embedded store.

#![allow(clippy::disallowed_methods, reason = "tests read files themselves")]

mod arrivals;
mod audits;
mod collections;
mod embedded;
mod fixture;
mod keys;
mod mongo;
mod objects;
mod records;
mod replacements;
mod selections;
mod sequences;
mod validators;

/// Makes two tests of each case, one per store.
macro_rules! on_both {
    ($($module:ident::$case:ident,)*) => {
        mod on_mongodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let database = crate::fixture::TestDatabase::mongodb();
                crate::$module::$case(&database).await;
                database.remove().await;
            })*
        }

        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let database = crate::fixture::TestDatabase::embedded();
                crate::$module::$case(&database).await;
                database.remove().await;
            })*
        }
    };
}

on_both! {
    records::an_existing_id_is_a_duplicate,
    records::an_id_twice_in_one_call_is_stored_once,
    records::ten_thousand_records_are_stored_and_counted_by_id,
    records::a_document_over_16_mib_is_rejected_alone,
    records::documents_that_no_store_accepts_are_rejected_with_their_positions,
    records::values_are_preserved,
    records::fields_with_dollars_and_dots_are_preserved,
    records::an_empty_write_writes_nothing,
    records::stored_documents_survive_reopening,
    records::concurrent_writers_store_each_record_once,
    collections::a_dropped_database_is_empty_and_can_be_used_again,
    collections::documents_that_break_the_validator_are_rejected_with_position_and_field,
    collections::a_rejected_value_may_look_like_extended_json,
    collections::a_validator_can_be_set_again_changed_and_removed,
    collections::concurrent_creators_of_a_collection_both_succeed,
    collections::put_inserts_and_replaces,
    collections::find_returns_equal_documents_in_order_of_ids,
    collections::a_missing_collection_is_empty,
    validators::each_keyword_accepts_valid_values_and_rejects_others,
    validators::schemas_that_mongodb_refuses_are_refused,
    keys::an_older_version_never_replaces_a_newer_one_in_any_order,
    keys::the_batch_layer_replaces_the_speed_layer_and_not_the_reverse,
    keys::writing_the_same_record_again_counts_as_stored,
    keys::a_document_without_a_version_replaces_nothing_and_is_replaced,
    keys::a_replacement_that_breaks_the_validator_leaves_the_existing_document,
    keys::concurrent_writers_leave_the_newest_version,
    replacements::documents_are_replaced_whoever_wrote_them_and_none_is_a_duplicate,
    replacements::records_are_removed_by_their_numbers_and_no_others,
    replacements::a_later_run_of_a_key_is_newer_and_only_earlier_runs_are_removed,
    replacements::documents_are_removed_by_ids_of_any_type,
    arrivals::what_became_of_due_times_is_read_in_their_order_and_removed_when_it_is_old,
    arrivals::runs_are_selected_by_when_their_files_were_received,
    sequences::marks_in_any_order_by_several_writers_make_the_same_state,
    sequences::received_numbers_survive_reopening,
    sequences::a_high_number_costs_one_block_and_hides_nothing,
    sequences::full_blocks_are_read_once_and_the_watermark_never_goes_back,
    sequences::only_a_bounded_part_of_a_source_with_a_gap_is_read,
    sequences::states_of_sources_epochs_clients_and_collections_are_separate,
    sequences::lost_numbers_are_recorded_once_and_hide_no_received_ones,
    objects::ranges_in_any_order_make_the_same_bytes,
    objects::a_range_can_be_stored_again_after_half_of_it,
    objects::an_object_with_a_hole_or_of_another_length_is_refused,
    objects::the_second_commit_changes_nothing,
    objects::an_object_may_be_empty,
    objects::an_offset_between_chunks_is_refused,
    objects::a_range_of_an_object_is_read_alone,
    objects::what_is_stored_about_an_object_is_known_once_it_is_committed,
    audits::ids_that_no_document_has_are_found_whatever_their_type,
    audits::documents_are_found_by_many_ids_at_once,
    audits::documents_are_counted_by_a_field_within_another,
    audits::a_collection_is_read_page_by_page,
    audits::the_stored_part_of_an_object_is_counted_before_and_after_its_commit,
    selections::documents_are_ordered_by_a_field_and_then_by_id,
    selections::documents_with_equal_values_are_paged_one_by_one_in_both_directions,
    selections::bounds_include_the_first_value_and_exclude_the_last,
    selections::numbers_of_all_types_have_one_order,
    selections::a_bound_selects_its_own_type_and_without_bounds_all_types_follow_one_another,
    selections::ids_of_several_types_are_paged_without_a_gap,
    selections::a_filter_leads_through_documents_and_arrays,
    selections::only_the_requested_fields_are_returned,
    selections::values_are_returned_as_they_are_stored,
    selections::an_invalid_selection_is_refused,
    selections::a_missing_collection_has_nothing_to_select,
    selections::large_documents_are_selected_in_order,
    selections::twenty_thousand_documents_are_paged_without_gap_or_repeat_while_others_come_and_go,
    selections::a_filter_by_null_or_a_position_in_an_array_selects_the_same_in_both_stores,
    selections::an_index_has_what_is_written_replaced_and_removed,
    selections::the_values_of_a_field_are_listed_once_and_in_order,
}
