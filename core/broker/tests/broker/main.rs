//! What the broker door promises, on the embedded broker and on mosquitto alike.

mod cases;
mod server;

/// One test per case and broker, each with a broker of its own.
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
    a_request_finds_its_way_back
    subscriptions_change_at_run_time
    without_a_connection_publishing_fails_at_once
    a_link_comes_back_and_subscribes_again
    a_slow_receiver_costs_messages_and_not_the_connection
    a_will_is_published_for_the_lost_and_not_for_the_closed
    a_dead_connection_is_noticed
    what_is_not_acknowledged_comes_again_and_old_acknowledgements_hit_nothing
    acknowledgements_are_sent_before_disconnecting
    a_session_queues_while_its_owner_is_away
    a_session_can_be_made_and_ended_without_taking_its_messages
    members_of_a_shared_subscription_share_and_lose_nothing
    the_window_is_the_brake
    an_app_that_takes_nothing_keeps_its_connection
    a_member_drains_and_ends_its_session
    of_two_with_one_client_id_one_gives_way
}

/// The embedded broker ends a connection that takes none of what it writes for longer than a keep-alive.
#[test]
fn an_app_that_may_read_no_more_keeps_its_connection_to_mosquitto() {
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
