//! The way back to a client: its reply buffer, imported.

use std::net::SocketAddr;
use std::time::Duration;

use vmmc::{Error, Export, Import, Key, Node, Notification};

use crate::protocol::{ANSWER_AT, Answer, OPEN_LEN, Open, REPLY_BODY_AT, SCRATCH_AT, reply_export};

/// How long a client may take to make room for what it asked for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads what a client has written to a door, if that is what its notification says.
pub(super) fn read_open(control: &Export, news: &Notification) -> Option<Open> {
    let mut bytes = [0; OPEN_LEN];
    control.read(news.offset, &mut bytes).ok()?;
    Open::parse(&bytes).filter(|open| open.nonce == news.tag)
}

/// The way to a client.
pub(super) struct Reply {
    import: Import,
    nonce: u32,
}

impl Reply {
    /// Imports a client's reply buffer. Blocks until the client has answered, or counts as dead.
    pub(super) fn open(node: &Node, peer: SocketAddr, open: Open) -> Result<Reply, Error> {
        let import = node.import(peer, &reply_export(open.nonce), Key::new(open.key))?;
        Ok(Reply { import, nonce: open.nonce })
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.import.peer()
    }

    /// Whether it is this client's.
    pub(super) fn is_of(&self, peer: SocketAddr, open: Open) -> bool {
        self.peer() == peer && self.nonce == open.nonce
    }

    pub(super) fn answer(&self, answer: &Answer) -> Result<(), Error> {
        self.import.send(&answer.emit(), ANSWER_AT).notify(self.nonce).timeout(PATIENCE).start().map(drop)
    }

    /// Sends a ping back.
    pub(super) fn echo(&self, bytes: &[u8], tag: u32) -> Result<(), Error> {
        self.import.send(bytes, REPLY_BODY_AT).notify(tag).timeout(PATIENCE).start().map(drop)
    }

    /// Why the client is no longer there, if it isn't.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.import.send(&[0], SCRATCH_AT).timeout(Duration::ZERO).start() {
            // Slow isn't dead.
            Ok(_) | Err(Error::Timeout { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
