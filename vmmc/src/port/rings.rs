//! Where a port's frames are at a moment: what tells a node that is short of memory from one whose peer is slow.

use serde::{Deserialize, Serialize};

/// All of a port's frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rings {
    /// The receiving side of each queue, which has frames of its own.
    pub receive: Vec<ReceiveRings>,
    /// The sending side.
    pub send: SendRings,
}

/// The frames that one queue receives into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveRings {
    /// The queue's number.
    pub queue: u32,
    /// How many frames there are.
    pub frames: usize,
    /// How many entries each ring has.
    pub ring: usize,
    /// Frames that wait for packets: in the fill ring.
    pub fill: usize,
    /// Frames that the driver has taken from there and not yet used: none where the kernel copies.
    pub driver: usize,
    /// Frames with packets that the node hasn't looked at: in the RX ring.
    pub arrived: usize,
    /// Frames with packets that the node has and keeps: those that came before one that is missing, for the most part.
    pub kept: usize,
    /// Frames that the node is done with, and hasn't put back into the fill ring.
    pub spare: usize,
}

/// The frames that are sent from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRings {
    /// The number of the queue.
    pub queue: u32,
    /// How many frames there are.
    pub frames: usize,
    /// How many entries each ring has.
    pub ring: usize,
    /// Frames in no packet.
    pub free: usize,
    /// Frames in the TX ring that the kernel hasn't taken yet.
    pub unsent: usize,
    /// Frames the kernel is done with, and the node hasn't noticed: in the completion ring.
    pub completed: usize,
    /// Frames anywhere between the node's handing them over and its noticing that they have been sent; the two above are among them.
    pub sending: usize,
    /// Frames in packets: kept until these are acknowledged, or being filled, or sent.
    pub kept: usize,
}

/// The rings of a bulk lane. Entries are pieces of packets: a place takes one of the fill ring for each 3840 bytes, a packet to send one of the TX ring for its headers and one for
/// each page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkRings {
    /// The number of the queue.
    pub queue: u32,
    /// How many entries the fill ring and the RX ring have.
    pub ring: usize,
    /// Places that are posted, and in which nothing has been seen to land.
    pub places: usize,
    /// Entries that these take, wherever they are.
    pub posted: usize,
    /// Of those, how many the kernel hasn't taken from the fill ring yet.
    pub fill: usize,
    /// Entries of the RX ring that the node hasn't looked at.
    pub arrived: usize,
    /// How many entries the TX ring and the completion ring have.
    pub send_ring: usize,
    /// How many packets may be anywhere between the node's handing them over and its noticing that they have been sent.
    pub slots: usize,
    /// Of those, how many there are.
    pub sending: usize,
    /// Entries of the TX ring that the kernel hasn't taken yet.
    pub unsent: usize,
    /// Entries of the completion ring that the node hasn't noticed.
    pub completed: usize,
}
