//! The bulk lane's bookkeeping: which segment belongs where, which has landed, what is missing, and whose turn it is.
//!
//! A transfer is cut into *segments* of one length; segment 0 is the one at the lowest address. The receiver grants it by posting as many *positions*, where
//! position `i` is the memory that segment `i` belongs in, and the sender then sends the segments, highest first. All here is pure: no I/O, no clock.
//!
//! | module | what it is | whose |
//! |---|---|---|
//! | [`outgoing`] | the transfers to one peer: asked for, granted, sent, sent again | the sender's |
//! | [`schedule`] | which peer's transfer is granted next | the receiver's |
//! | [`turn`] | how long one peer may keep others waiting | the receiver's |
//! | [`trust`] | who is granted nothing for a while | the receiver's |
//! | [`incoming`] | one granted transfer: what has landed where, what to ask for again | the receiver's |
//! | [`permutation`] | how to put segments in order that landed in one another's places | the receiver's |

pub(crate) mod incoming;
pub(crate) mod outgoing;
pub(crate) mod permutation;
pub(crate) mod schedule;
pub(crate) mod trust;
pub(crate) mod turn;

#[cfg(test)]
mod model;

/// Segments of a transfer at most: each takes at least one entry of the fill ring, and a grant may have so many of them.
pub(crate) const MAX_SEGMENTS: u32 = 1024;
