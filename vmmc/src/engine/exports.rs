//! Exports: receive buffers that others may write into.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::events::{EventQueues, Report};
use super::landing::{Ended, Landed, Landing, Piece, Place, RedirectId};
use super::slab::Slab;
use super::{EngineCounters, EngineError};
use crate::memory::{Region, Writer};
use crate::wire::record::{Access, MAX_NAME, Refusal};

/// The secret that opens an export: 128 bits. Its text form is 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of exports that anyone may import: all zeros.
    pub const PUBLIC: Key = Key([0; 16]);

    /// A key of these bits.
    pub const fn new(bytes: [u8; 16]) -> Key {
        Key(bytes)
    }

    /// Its bits.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    fn opens(self, other: Key) -> bool {
        // One comparison of 128 bits: it takes as long whichever bit differs.
        u128::from_ne_bytes(self.0) ^ u128::from_ne_bytes(other.0) == 0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys don't belong in logs.
        f.write_str("Key(..)")
    }
}

/// The text isn't a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 hexadecimal digits, and this is {0} characters of something else")]
pub struct BadKey(usize);

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Key, BadKey> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        value.map(|v| Key(v.to_be_bytes())).ok_or(BadKey(text.chars().count()))
    }
}

/// What is told to the owner of an export when a notifying send has arrived in whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Where in the export the send began, bytes.
    pub offset: u64,
    /// How long it was, bytes.
    pub length: u64,
    /// What the sender said.
    pub tag: u32,
    /// Who sent it.
    pub peer: SocketAddr,
    /// Where it is: in the export, unless there were redirects. When others have sent to the same place in the meantime it says where the
    /// last byte for each place is.
    pub landed: Landed,
}

impl Notification {
    /// The pieces the send is in, in order. None, when it has no bytes.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.landed.pieces(self.length)
    }

    /// Whether any of it is in the target of this redirect.
    pub fn is_in(&self, id: RedirectId) -> bool {
        self.pieces().any(|piece| matches!(piece.place, Place::Redirect { redirect, .. } if redirect == id))
    }

    /// Becomes one with the next, if that goes on where this one ends. Returns whether it has.
    pub(super) fn absorb(&mut self, next: &Notification) -> bool {
        // One without bytes is an announcement of its own.
        let goes_on = (self.peer, self.tag) == (next.peer, next.tag)
            && self.offset + self.length == next.offset
            && self.length.min(next.length) > 0
            && self.landed == Landed::Default
            && next.landed == Landed::Default;
        if goes_on {
            self.length += next.length;
        }
        goes_on
    }
}

/// What to export.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Its name: 1 to 128 bytes.
    pub name: String,
    /// Whoever knows this key may import it.
    pub key: Key,
    /// And so may a node at one of these addresses.
    pub peers: Vec<IpAddr>,
    /// Only the node at this address may import it; `None` for any.
    pub only: Option<SocketAddr>,
    /// Whether sends may notify.
    pub notify: bool,
    /// Whether it may be fetched from.
    pub readable: bool,
    /// Whether it may be written into.
    pub writable: bool,
    /// How many notifications may wait for the application. When they are that many, the peers that send more get no more
    /// credit until some are taken; those under way still come.
    pub queue: usize,
}

/// An export.
#[derive(Debug)]
pub(crate) struct Export {
    pub options: ExportOptions,
    pub region: Writer,
    /// Which part of what comes goes elsewhere.
    pub landing: Landing,
    /// Bytes that have come.
    pub bytes: u64,
    /// Bytes fetched from it.
    pub read_bytes: u64,
    /// Notifications that have come.
    pub notifications: u64,
    /// Grants that peers hold.
    pub importers: u64,
    pub queue: VecDeque<Notification>,
    /// Its notifications go there, and not into the queue,
    pub report: Option<Report>,
    /// where so many wait.
    pub reported: usize,
    /// Notifications that wait become one with those that go on where they end.
    pub merge: bool,
    /// Somebody was held up because the queue was full.
    pub starved: bool,
    /// Its own number.
    pub id: u32,
}

impl Export {
    /// Whether another notification has room.
    pub(crate) fn has_room(&mut self) -> bool {
        let room = self.waiting() < self.options.queue;
        self.starved |= !room;
        room
    }

    /// How many notifications haven't been taken.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len() + self.reported
    }

    /// A send of `peer` has come in whole, whose owner is to be told.
    pub(crate) fn notify(
        &mut self,
        (offset, length): (u64, u64),
        tag: u32,
        peer: SocketAddr,
        events: &mut EventQueues,
    ) {
        self.notifications += 1;
        let landed = self.landing.landed(offset..offset + length);
        let news = Notification { offset, length, tag, peer, landed };
        match self.report {
            Some(report) => match events.notify(report, self.id, self.merge, news) {
                Ok(more) => self.reported += usize::from(more),
                // Nobody wants to know.
                Err(news) => self.landing.told(&news),
            },
            None if self.merge && self.queue.back_mut().is_some_and(|newest| newest.absorb(&news)) => {}
            None => self.queue.push_back(news),
        }
    }

    /// Whether a peer may write there.
    pub(crate) fn allows(&self, run: &std::ops::Range<u64>) -> Result<(), Refusal> {
        if !self.options.writable {
            Err(Refusal::NotWritable)
        } else if run.end > self.region.len() as u64 {
            Err(Refusal::OutOfRange)
        } else if self.region.has_lent(run.clone()) {
            Err(Refusal::Lent)
        } else {
            Ok(())
        }
    }

    /// What its importers may do with it.
    pub(crate) fn access(&self) -> Access {
        let ExportOptions { notify: notifies, readable, writable, .. } = self.options;
        Access { notifies, readable, writable }
    }

    pub(crate) fn admits(&self, peer: SocketAddr, key: Key) -> bool {
        let place = |address: SocketAddr| (address.ip(), address.port());
        self.options.only.is_none_or(|only| place(only) == place(peer))
            && (self.options.key.opens(key) || self.options.peers.contains(&peer.ip()))
    }
}

/// All exports of a node.
#[derive(Debug)]
pub(crate) struct Exports {
    slab: Slab<Export>,
    names: HashMap<String, u32>,
    /// Redirects of exports that are gone, until they are taken back.
    pub orphans: HashMap<RedirectId, Ended>,
    /// The number of the last redirect.
    pub last_redirect: u64,
    /// Redirects that were taken back before they had ended: nobody waits to hear of that.
    pub taken_back: u64,
}

impl Exports {
    pub(crate) fn new(most: usize) -> Exports {
        Exports {
            slab: Slab::new(most),
            names: HashMap::new(),
            orphans: HashMap::new(),
            last_redirect: 0,
            taken_back: 0,
        }
    }

    pub(crate) fn insert(&mut self, options: ExportOptions, region: Region) -> Result<u32, EngineError> {
        let name = options.name.clone();
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(EngineError::BadName { name });
        }
        if self.names.contains_key(&name) {
            return Err(EngineError::NameTaken { name });
        }
        let Some(region) = region.writer() else { return Err(EngineError::Exported { name }) };
        let export = Export {
            landing: Landing::new(region.len(), options.notify),
            options,
            region,
            bytes: 0,
            read_bytes: 0,
            notifications: 0,
            importers: 0,
            queue: VecDeque::new(),
            report: None,
            reported: 0,
            merge: false,
            starved: false,
            id: 0,
        };
        let id = self.slab.insert(export).map_err(|_| EngineError::TooManyExports)?;
        if let Some(export) = self.slab.get_mut(id) {
            export.id = id;
        }
        self.names.insert(name, id);
        Ok(id)
    }

    /// Returns the options of the export that is gone.
    pub(crate) fn remove(
        &mut self,
        id: u32,
        events: &mut EventQueues,
        counters: &mut EngineCounters,
    ) -> Option<ExportOptions> {
        let export = self.slab.remove(id)?;
        events.forget_export(&export);
        let Export { options, landing, .. } = export;
        self.names.remove(&options.name);
        self.orphans.extend(landing.dissolve(counters).into_iter().map(|ended| (ended.id(), ended)));
        Some(options)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Export> {
        self.slab.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Export> {
        self.slab.get_mut(id)
    }

    pub(crate) fn find(&mut self, name: &[u8]) -> Option<(u32, &mut Export)> {
        let id = *self.names.get(std::str::from_utf8(name).ok()?)?;
        self.slab.get_mut(id).map(|export| (id, export))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Export)> {
        self.slab.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_text_form() {
        let key = Key::new(*b"0123456789abcdef");
        assert_eq!(key.to_string().parse(), Ok(key));
        for bad in ["", "0", "+0123456789abcdef0123456789abcde", &"g".repeat(32), &"0".repeat(33), "ключ"] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
        assert!(!format!("{key:?}").contains("30"));
    }
}
