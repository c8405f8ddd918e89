//! How threads, tasks and descriptors wait.
//!
//! One thread at a time *leads*: it takes events from the node, hands them to the streams, and wakes whom they concern. A thread that has to wait and finds nobody
//! leading leads itself, until what it waits for has come: so a program of one thread is never woken by another. The rest *follow*: they park until the
//! leader unparks them.
//!
//! A thread of the stack's own stands by. It leads when nobody has for a while, so that a program that computes still acknowledges and stays alive, and
//! as long as there is anybody to be served: followers, tasks, descriptors. While the tasks of a runtime have much to do, one of them leads: its *driver*.

mod cork;
#[cfg(all(test, feature = "tokio"))]
pub(crate) mod counter;
mod descriptor;
mod driver;
mod lead;
mod spin;
mod standby;
mod watch;

pub(crate) use cork::Cork;
pub(crate) use descriptor::{Clone as CloneDescriptor, Descriptor, Own as OwnDescriptor, State};
pub(crate) use driver::Driver;
pub(crate) use lead::{Drive, Lead, Waiting};
pub(crate) use spin::Spin;
pub(crate) use standby::stand_by;
pub(crate) use watch::{Watch, Watcher, lock};
