//! What is told of a link: how far it has come, what it has counted, why it has ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::WireError;

/// Why a link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// Nobody answered the HELLO.
    #[error("it did not answer within {0:?}: is a node running there, and does UDP reach it?")]
    NoAnswer(Duration),
    /// The peer was there and has fallen silent.
    #[error("it has been silent for {0:.1?}: it is dead or out of reach")]
    Silent(Duration),
    /// The peer has a new incarnation, or has lost the link.
    #[error("it has restarted, and what was under way is lost")]
    Restarted,
    /// The peer has closed the link in order.
    #[error("it has closed the link")]
    ClosedByPeer,
    /// This side has closed the link.
    #[error("the link was closed here")]
    Closed,
    /// The peer has broken the protocol.
    #[error("it broke the protocol: {0}")]
    Violation(WireError),
}

/// What a link has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// DATA packets sent, without repetitions.
    pub tx_data: u64,
    /// Their bytes, Ethernet headers included.
    pub tx_bytes: u64,
    /// DATA packets sent again.
    pub tx_retransmitted: u64,
    /// Acknowledgements sent alone.
    pub tx_acks: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// DATA packets processed.
    pub rx_data: u64,
    /// Their bytes, Ethernet headers included.
    pub rx_bytes: u64,
    /// DATA packets that came early and were kept.
    pub rx_early: u64,
    /// DATA packets that had come before, or came past all credit.
    pub rx_refused: u64,
    /// Packets with a wrong checksum, or without one where it was agreed on.
    pub rx_damaged: u64,
    /// Acknowledgements of what was never sent.
    pub rx_nonsense: u64,
}

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// This side has said HELLO, and nobody has answered yet.
    Opening,
    /// This side has answered a HELLO, and waits for a sign that its sender is there.
    HalfOpen,
    /// DATA may be exchanged.
    Open,
    /// This side closes it.
    Closing,
}

impl std::fmt::Display for LinkState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            LinkState::Opening => "opening",
            LinkState::HalfOpen => "half open",
            LinkState::Open => "open",
            LinkState::Closing => "closing",
        })
    }
}
