//! What every store promises, shown on each: a real MongoDB and the embedded store.

#![allow(clippy::disallowed_methods, reason = "tests look at files themselves")]

mod audits;
mod collections;
mod embedded;
mod keys;
mod mongo;
mod objects;
mod place;
mod records;
mod replacements;
mod sequences;
mod validators;

/// Each case becomes two tests.
macro_rules! on_both {
    ($($module:ident::$case:ident,)*) => {
        mod on_mongodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let place = crate::place::Place::mongodb();
                crate::$module::$case(&place).await;
                place.remove().await;
            })*
        }

        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let place = crate::place::Place::embedded();
                crate::$module::$case(&place).await;
                place.remove().await;
            })*
        }
    };
}

on_both! {
    records::what_is_there_already_is_a_duplicate,
    records::an_id_twice_in_one_call_is_stored_once,
    records::ten_thousand_records_are_stored_and_counted_by_id,
    records::a_document_over_16_mib_is_rejected_alone,
    records::documents_that_no_store_takes_are_rejected_with_their_positions,
    records::values_survive,
    records::fields_with_dollars_and_dots_survive,
    records::nothing_to_write_is_nothing_written,
    records::what_has_been_stored_is_there_after_opening_again,
    records::two_who_write_at_once_store_each_record_once,
    collections::a_dropped_database_is_empty_and_can_be_used_again,
    collections::what_breaks_the_validator_is_rejected_with_its_position_and_field,
    collections::a_rejected_value_may_look_like_extended_json,
    collections::a_validator_can_be_given_again_changed_and_taken_away,
    collections::two_who_create_a_collection_at_once_both_succeed,
    collections::put_inserts_and_replaces,
    collections::find_returns_what_equals_in_order_of_ids,
    collections::a_collection_that_is_not_there_is_empty,
    validators::each_keyword_takes_what_fits_and_rejects_what_does_not,
    validators::what_mongodb_does_not_know_is_refused,
    keys::older_never_replaces_newer_in_whatever_order_they_come,
    keys::the_batch_layer_replaces_the_speed_layer_and_not_the_other_way,
    keys::the_same_record_again_is_stored,
    keys::what_has_no_stamp_replaces_nothing_and_is_replaced,
    keys::a_replacement_that_breaks_the_validator_leaves_what_was_there,
    keys::writers_at_the_same_time_leave_the_newest,
    replacements::documents_are_replaced_whoever_wrote_them_and_none_is_a_duplicate,
    replacements::records_are_removed_by_their_numbers_and_no_others,
    replacements::of_a_key_the_later_run_is_newer_and_only_earlier_ones_are_removed,
    sequences::marks_in_any_order_by_several_writers_make_the_same_state,
    sequences::what_is_received_is_known_after_opening_again,
    sequences::a_high_number_costs_one_block_and_hides_nothing,
    sequences::full_blocks_are_read_once_and_the_watermark_never_goes_back,
    sequences::of_a_source_with_a_gap_a_bounded_part_is_read,
    sequences::states_of_sources_epochs_clients_and_collections_are_apart,
    sequences::what_is_lost_is_recorded_once_and_hides_nothing_that_is_received,
    objects::ranges_in_any_order_make_the_same_bytes,
    objects::a_range_can_be_stored_again_after_half_of_it,
    objects::an_object_with_a_hole_or_of_another_length_is_refused,
    objects::the_second_commit_changes_nothing,
    objects::an_object_may_be_empty,
    objects::an_offset_between_chunks_is_refused,
    audits::ids_that_no_document_has_are_found_whatever_their_type,
    audits::documents_are_found_by_many_ids_at_once,
    audits::documents_are_counted_by_a_field_within_another,
    audits::a_collection_is_read_page_by_page,
    audits::what_is_stored_of_an_object_is_counted_before_and_after_its_commit,
}
