//! What this crate guarantees, tested on the embedded broker and on mosquitto.

mod cases;
mod server;

/// Makes one test of each case and broker. Each test has a broker of its own.
macro_rules! on_both_brokers {
    ($($case:ident)*) => {
        mod embedded {
            $(#[test] fn $case() { crate::server::run(crate::server::embedded, crate::cases::$case) })*
        }
        mod mosquitto {
            $(#[test] fn $case() { crate::server::run(crate::server::mosquitto, crate::cases::$case) })*
        }
    };
}

on_both_brokers! {
    a_message_is_acknowledged_and_arrives
    a_message_larger_than_the_librarys_default_arrives
    a_request_gets_its_response
    subscriptions_change_at_run_time
    without_a_connection_publishing_fails_at_once
    a_link_reconnects_and_subscribes_again
    a_slow_receiver_loses_messages_but_not_the_connection
    a_will_is_published_for_a_lost_connection_and_not_for_a_closed_one
    a_dead_connection_is_noticed
    unacknowledged_messages_are_delivered_again_and_stale_acknowledgements_have_no_effect
    acknowledgements_are_sent_before_disconnecting
    a_session_queues_messages_while_its_owner_is_offline
    a_session_can_be_created_and_ended_without_receiving_its_messages
    members_of_a_shared_subscription_share_messages_and_lose_none
    the_window_limits_the_messages_in_flight
    an_app_that_takes_nothing_keeps_its_connection
    a_member_drains_and_ends_its_session
    of_two_consumers_with_one_client_id_one_gives_way
}

/// Only on mosquitto: the embedded broker ends a connection that reads nothing for longer than a keep-alive.
#[test]
fn an_app_that_reads_no_more_keeps_its_connection_to_mosquitto() {
    server::run(server::mosquitto, cases::an_app_that_may_read_no_more_keeps_its_connection);
}

#[test]
fn a_message_that_the_broker_would_refuse_is_not_sent() {
    server::run(server::embedded, cases::a_message_that_the_broker_would_refuse_is_not_sent);
}

#[test]
fn a_session_follows_the_broker_to_another_address_and_subscribes_there() {
    server::run(server::embedded, cases::a_session_follows_the_broker_to_another_address);
}
