//! Streams between real processes in network namespaces, in trouble: killed, stalled, short of descriptors, on a bad network, with a hostile
//! peer. They need root, and fail without.
//!
//! The processes are this program itself, started anew on a lab's host to do as they are told: see [`process`] and [`told`]. Most cases run over
//! the kernel's TCP as well, which shows that they ask for what sockets can do.

mod bad_network;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod descriptors;
mod hostile;
mod interface;
mod killed;
mod lane;
mod nobody;
mod process;
#[allow(dead_code)] // not all methods are asked for here
#[path = "../conformance/sockets.rs"]
mod sockets;
mod stalled;
mod told;

/// Makes a test of each case, for each kind of sockets.
macro_rules! tests {
    ($name:ident, $family:expr; $($module:ident::$case:ident)*) => {
        mod $name {
            $(
                #[test]
                fn $case() {
                    crate::common::watched(concat!(stringify!($name), "::", stringify!($case)), || {
                        crate::$module::$case($family);
                    });
                }
            )*
        }
    };
}

macro_rules! suite {
    ($($cases:tt)*) => {
        tests!(tcp, crate::process::Family::Tcp; $($cases)*);
        tests!(vmmc, crate::process::Family::Vmmc; $($cases)*);
    };
}

suite! {
    bad_network::streams_survive_loss_and_damage
    crowd::two_thousand_connections_at_once
    crowd::connections_come_and_go_and_leave_nothing
    descriptors::without_descriptors_there_is_an_error_and_with_them_it_goes_on
    interface::down_for_a_moment_and_up_again
    interface::down_for_long_and_up_again
    killed::a_server_learns_that_its_client_was_killed
    killed::a_client_learns_that_its_server_was_killed
    killed::killed_again_and_again
    killed::stopped_and_continued
    nobody::who_isn_t_there_can_t_be_connected_to
    stalled::a_peer_that_doesn_t_read_for_long_loses_nothing
    stalled::waiting_takes_no_processor
}
