//! Where the bytes of a send have gone: what a notification tells.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The number of a redirect. No other of the same node has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedirectId(pub(in crate::engine) u64);

impl fmt::Display for RedirectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the sender has put it: in the export.
    Default,
    /// In the target of a redirect.
    Redirect {
        /// Of which.
        redirect: RedirectId,
        /// Where in the target it begins, bytes.
        at: u64,
    },
    /// Nobody knows: it has gone to so many places that no account is kept of them. What a redirect holds is still known from that:
    /// [`Received`](super::Received).
    Unknown,
}

impl Place {
    /// Where the bytes are that come `by` bytes later.
    pub(super) fn advanced(self, by: u64) -> Place {
        match self {
            Place::Redirect { redirect, at } => Place::Redirect { redirect, at: at + by },
            other => other,
        }
    }
}

/// Bytes of a send that lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which bytes: 0 is the first one of the send.
    pub range: Range<u64>,
    /// Where they are.
    pub place: Place,
}

/// Where a send has gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    /// All of it lies where the sender has put it, in the export.
    Default,
    /// All of it lies in one piece in the target of a redirect.
    Redirect {
        /// Of which.
        redirect: RedirectId,
        /// Where in the target it begins, bytes.
        at: u64,
    },
    /// It is in several pieces, here in order, or nobody knows.
    Pieces(Arc<[Piece]>),
}

impl Landed {
    /// The pieces of a send of `length` bytes that has landed so. None, when it has no bytes.
    pub(in crate::engine) fn pieces(&self, length: u64) -> impl Iterator<Item = Piece> {
        let (whole, listed) = match self {
            _ if length == 0 => (None, &[][..]),
            Landed::Default => (Some(Place::Default), &[][..]),
            &Landed::Redirect { redirect, at } => (Some(Place::Redirect { redirect, at }), &[][..]),
            Landed::Pieces(pieces) => (None, &pieces[..]),
        };
        whole.map(|place| Piece { range: 0..length, place }).into_iter().chain(listed.iter().cloned())
    }

    /// How many pieces it has a list of.
    pub(super) fn listed(&self) -> usize {
        if let Landed::Pieces(pieces) = self { pieces.len() } else { 0 }
    }
}

/// Puts pieces together, which come in order, and without gaps.
pub(super) struct Builder {
    pieces: Vec<Piece>,
    length: u64,
    most: usize,
}

impl Builder {
    /// For at most so many pieces.
    pub(super) fn new(most: usize) -> Builder {
        Builder { pieces: Vec::new(), length: 0, most }
    }

    /// The next `length` bytes are there.
    pub(super) fn push(&mut self, length: u64, place: Place) {
        let range = self.length..self.length + length;
        self.length = range.end;
        let over = self.is_over();
        match self.pieces.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.place.advanced(last.range.end - last.range.start) == place => last.range.end = range.end,
            // One too many shows that there were too many.
            _ if over => {}
            _ => self.pieces.push(Piece { range, place }),
        }
    }

    /// There are more pieces than it takes: the others make no difference.
    pub(super) fn is_over(&self) -> bool {
        self.pieces.len() > self.most
    }

    /// A send of `length` bytes that is in these pieces.
    pub(super) fn build(self, length: u64) -> Landed {
        if self.is_over() {
            return Landed::Pieces(Arc::new([Piece { range: 0..length, place: Place::Unknown }]));
        }
        match self.pieces[..] {
            [] => Landed::Default,
            [Piece { place: Place::Default, .. }] => Landed::Default,
            [Piece { place: Place::Redirect { redirect, at }, .. }] => Landed::Redirect { redirect, at },
            _ => Landed::Pieces(self.pieces.into()),
        }
    }
}
