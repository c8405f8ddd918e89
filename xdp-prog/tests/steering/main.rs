//! The steering program, tried on frames in memory and on interfaces in network namespaces.
//!
//! All of it runs in the kernel, so these tests need root. Without it they fail and say so.

mod attach;
mod fixtures;
mod foreign;
mod gate;
mod netns;
mod oracle;
mod packet;
mod property;
mod receiver;
mod refused;
mod trial;
