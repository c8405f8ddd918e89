//! One suite over the kernel's TCP and over VMMC: what std promises of `TcpListener` and `TcpStream`, method by method, and what Linux makes of
//! it. Any difference is a failure, or a line of the table in [`deviations`].
//!
//! Each case runs in several worlds (see [`world`]), and is a test of its own in each: `tcp::a_case`, `simulated::a_case`, `lossy::a_case`, `laned::a_case`, and
//! some on a real veth pair: `veth::a_case`. They need root, and fail without.

mod addresses;
mod closing;
#[path = "../common/mod.rs"]
mod common;
mod crowded;
mod deviations;
mod many;
mod model;
mod options;
mod readiness;
mod sockets;
mod together;
mod transfer;
mod waiting;
mod world;

/// Makes a test of each case.
macro_rules! tests {
    ($name:ident, $world:ty: $($module:ident { $($case:ident)* })*) => {
        mod $name {
            $($(
                #[test]
                fn $case() {
                    crate::common::watched(concat!(stringify!($name), "::", stringify!($case)), || {
                        crate::$module::$case(&crate::world::seeded::<$world>());
                    });
                }
            )*)*
        }
    };
}

/// Makes a list of all cases.
macro_rules! list {
    ($($module:ident { $($case:ident)* })*) => {
        fn cases<W: world::World>() -> Vec<(&'static str, fn(&W))> {
            vec![$($((stringify!($case), $module::$case::<W>)),*),*]
        }
    };
}

/// Makes tests of all cases, in the worlds in which they run.
macro_rules! suite {
    ($($cases:tt)*) => {
        tests!(tcp, crate::world::Tcp: $($cases)*);
        tests!(simulated, crate::world::Simulated: $($cases)*);
        tests!(lossy, crate::world::Lossy: $($cases)*);
        tests!(laned, crate::world::Laned: $($cases)*);
        list!($($cases)*);
    };
}

/// What has become of a call: its error's kind is what programs go by.
fn kind<T>(result: std::io::Result<T>) -> Result<T, std::io::ErrorKind> {
    result.map_err(|error| error.kind())
}

/// How a call has failed, if it has.
fn failed<T>(result: std::io::Result<T>) -> Option<std::io::ErrorKind> {
    kind(result).err()
}

suite! {
    addresses {
        port_0_means_any_free_port
        a_port_can_be_chosen
        a_port_in_use_is_refused
        a_port_is_free_again_when_its_listener_is_gone
        an_address_of_another_host_can_t_be_bound
        the_unspecified_address_means_all
        bind_takes_the_first_address_that_works
        connect_takes_the_first_address_that_answers
        a_closed_port_refuses
        a_timeout_of_zero_can_t_be
        connect_with_a_timeout_connects
        connect_gives_up_when_its_time_has_passed
        an_address_of_the_other_version_of_ip_can_t_be_reached
        both_sides_know_both_addresses
        clients_have_ports_of_their_own
        debug_shows_the_addresses
        a_host_connects_to_itself
        incoming_yields_every_stream
        into_incoming_yields_every_stream
        clients_that_wait_are_accepted_in_their_order
        clones_of_a_listener_share_its_clients
        a_listener_s_end_refuses_who_comes_and_resets_who_waits
        a_listener_has_no_error
        loopback_leads_to_no_other_host
    }
    transfer {
        what_is_written_is_read
        a_read_takes_what_there_is
        small_writes_may_be_read_as_one
        the_end_is_read_as_0_again_and_again
        an_empty_buffer_takes_nothing
        nothing_can_be_written
        a_peek_leaves_what_it_sees
        vectored_writes_are_one_after_the_other
        vectored_reads_fill_one_after_the_other
        streams_of_every_length
        pieces_of_every_length
        a_short_write_says_how_much
        single_bytes_arrive_in_order
        questions_and_answers
        std_s_readers_and_writers_work
    }
    closing {
        the_end_comes_after_the_data
        after_the_end_nothing_can_be_written
        half_closed_streams_go_on_the_other_way
        a_direction_can_be_ended_twice
        no_more_reading_ends_reading_here
        no_more_reading_leaves_what_has_come
        who_reads_no_more_may_be_written_to
        both_ends_at_once
        ended_on_both_sides_it_is_over
        who_writes_to_a_closed_peer_learns_it
        a_write_after_the_peer_s_end_is_answered_by_reset
        dropped_after_all_was_read_it_ends_in_order
        dropped_with_unread_data_it_resets
        a_reset_can_be_told_by_write
        a_reset_can_be_taken_as_the_error
        after_a_reset_there_is_nothing_to_shut_down
        what_was_written_before_the_drop_arrives
        what_was_written_before_the_drop_arrives_when_it_is_read_late
        lingering_for_no_time_resets
        lingering_waits_for_the_data_to_arrive
        a_client_that_has_sent_and_gone_is_accepted
        a_client_that_has_reset_is_accepted_or_forgotten
        a_dropped_clone_closes_nothing
        a_clone_s_shutdown_is_everybody_s
    }
    options {
        a_new_stream_has_std_s_defaults
        timeouts_are_as_set
        a_timeout_of_zero_is_refused
        nodelay_and_linger_are_as_set
        clones_share_their_settings
        clones_share_their_position
        an_accepted_stream_blocks_whatever_its_listener_does
    }
    waiting {
        nothing_to_read_would_block
        nobody_to_accept_would_block
        full_it_would_block_and_drained_it_goes_on
        reads_time_out
        writes_time_out
        a_timeout_set_by_a_clone_counts
        a_waiting_reader_is_woken_by_data_and_by_the_end
        a_waiting_reader_is_woken_by_reset
        a_waiting_peek_is_woken
        a_waiting_writer_is_woken_by_room
        a_waiting_writer_is_woken_by_reset
        a_write_that_a_reset_has_cut_short_leaves_the_error_to_be_told
        a_waiting_reader_is_released_by_a_clone_s_shutdown
        a_waiting_writer_is_released_by_a_clone_s_shutdown
        a_waiting_accept_is_woken_by_a_client_and_not_by_a_clone_s_end
        several_threads_accept
        several_threads_read
    }
    readiness {
        a_new_stream_is_writable_and_not_readable
        readable_while_there_is_data
        not_readable_after_a_read_would_block
        data_wakes_a_sleeper
        the_peer_s_end_is_readable
        ended_both_ways_it_has_hung_up
        a_reset_is_an_error_until_it_is_told
        what_was_shut_down_here_is_ready
        not_writable_when_full_and_writable_when_drained
        a_listener_is_readable_while_somebody_waits
        epoll_tells_who_is_ready
        edge_triggered_epoll_tells_of_news
        edge_triggered_epoll_tells_of_room
        edge_triggered_epoll_tells_of_clients
    }
    together {
        much_goes_both_ways_at_once
        a_little_goes_both_ways_in_small_pieces
        many_streams_go_both_ways_at_once
        several_threads_write
        a_stream_is_moved_between_threads
        the_default_stream_of_data_is_slow_and_fast
    }
    many {
        many_clients_connect_before_the_first_is_accepted
        hundreds_of_connections_carry_data_at_once
        connections_come_and_go
        clients_connect_from_many_threads
        many_listeners_each_get_their_own
        both_hosts_listen_and_connect
        a_stalled_stream_holds_up_no_other
    }
}

tests! { veth, crate::world::Veth:
    addresses { a_port_can_be_chosen a_host_connects_to_itself connect_gives_up_when_its_time_has_passed }
    transfer { what_is_written_is_read streams_of_every_length questions_and_answers }
    closing { half_closed_streams_go_on_the_other_way dropped_with_unread_data_it_resets what_was_written_before_the_drop_arrives }
    waiting { reads_time_out a_waiting_writer_is_woken_by_room a_waiting_reader_is_released_by_a_clone_s_shutdown }
    readiness { data_wakes_a_sleeper not_writable_when_full_and_writable_when_drained edge_triggered_epoll_tells_of_news }
    together { much_goes_both_ways_at_once the_default_stream_of_data_is_slow_and_fast }
    many { hundreds_of_connections_carry_data_at_once connections_come_and_go }
}
