//! A client's side of a conversation with `vmmc serve`: see [`protocol`](crate::protocol).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracing::debug;
use vmmc::{EngineError, Error, Export, Import, Key, Node, Notification};

use crate::interrupt;
use crate::protocol::{
    ANSWER_AT, ANSWER_LEN, Answer, Open, PING_EXPORT, REPLY_BODY_AT, SCRATCH_AT, door, put_export, reply_export,
};

/// How long one door is waited at.
const DOOR_TIME: Duration = Duration::from_secs(1);
/// How many doors are tried.
const DOORS: usize = 8;
/// How often it is checked that the peer is still there, and that nobody wants to end this.
const CHECK_TIME: Duration = Duration::from_millis(250);

/// Why a conversation came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Node(#[from] Error),
    #[error("{peer} is this node itself: give the address of another, on which `vmmc serve` runs")]
    Itself { peer: SocketAddr },
    #[error("{peer} {service}: does `vmmc serve` run there{without}?")]
    NotServed { peer: SocketAddr, service: String, without: &'static str },
    #[error("{peer} {service}, but doesn't answer there: is it `vmmc serve` of this version?")]
    NoAnswer { peer: SocketAddr, service: String },
    #[error("{peer} refuses: {why}")]
    Refused { peer: SocketAddr, why: String },
    #[error("{peer} says what makes no sense here: is it `vmmc serve` of this version?")]
    Nonsense { peer: SocketAddr },
    #[error("interrupted")]
    Interrupted,
}

/// An export can't be imported with the key that was given, or without one.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error(
        "{peer} exports {name:?} under a key, and none was given: --key HEX, as `vmmc serve` printed it when it started there"
    )]
    Missing { peer: SocketAddr, name: String },
    #[error(
        "{peer} exports {name:?} under another key, or without one: what `vmmc serve` printed when it started there says which \
         --key to give"
    )]
    Wrong { peer: SocketAddr, name: String },
}

/// Imports what `vmmc serve` exports as `name`.
pub(crate) fn import(
    node: &Node,
    peer: SocketAddr,
    name: &str,
    key: Key,
) -> Result<Import, Box<dyn std::error::Error>> {
    node.import(peer, name, key).map_err(|error| match error {
        Error::Engine(EngineError::Denied { .. }) => {
            let name = name.to_owned();
            Box::from(match key {
                Key::PUBLIC => KeyError::Missing { peer, name },
                _ => KeyError::Wrong { peer, name },
            })
        }
        error => Box::from(error),
    })
}

/// What is asked of `vmmc serve`.
#[derive(Clone, Copy)]
pub(crate) enum Service<'a> {
    /// To answer pings.
    Ping,
    /// To check files that are put into this export.
    Put(&'a str),
}

impl Service<'_> {
    /// The name of its control buffer.
    fn control(self) -> String {
        match self {
            Service::Ping => PING_EXPORT.to_owned(),
            Service::Put(export) => put_export(export),
        }
    }

    /// A node that has no such service ...
    fn missing(self, peer: SocketAddr) -> CallError {
        match self {
            Service::Ping => {
                let without = ", and without --no-ping";
                CallError::NotServed { peer, service: "is a node, but answers no pings".to_owned(), without }
            }
            Service::Put(export) => {
                let service = format!("exports {export:?}, but receives no files into it");
                CallError::NotServed { peer, service, without: "" }
            }
        }
    }

    /// ... and one that has it, and doesn't answer.
    fn mute(self, peer: SocketAddr) -> CallError {
        let service = match self {
            Service::Ping => "has a buffer for pings".to_owned(),
            Service::Put(export) => format!("has a buffer for files that are put into {export:?}"),
        };
        CallError::NoAnswer { peer, service }
    }
}

/// An open conversation.
pub(crate) struct Call {
    control: Import,
    reply: Export,
    nonce: u32,
    at: u64,
}

impl Call {
    /// Opens one about a service. `body` is how many bytes `serve` may write beside its answers.
    pub(crate) fn open(
        node: &Node,
        peer: SocketAddr,
        service: Service<'_>,
        key: Key,
        body: u64,
    ) -> Result<Call, CallError> {
        if peer == node.local() {
            return Err(CallError::Itself { peer });
        }
        let import = node.import(peer, &service.control(), key).map_err(|error| match error {
            Error::Engine(EngineError::UnknownName { .. }) => service.missing(peer),
            error => error.into(),
        })?;
        let (random, key) = (Key::random()?.to_bytes(), Key::random()?);
        let nonce = u32::from_be_bytes([random[0], random[1], random[2], random[3]]);
        let length = (REPLY_BODY_AT + body) as usize;
        let reply = node.export(&reply_export(nonce)).len(length).key(key).notify(true).create()?;
        let mut call = Call { control: import, reply, nonce, at: 0 };
        let open = Open { nonce, key: key.to_bytes() }.emit();
        for &random in &random[random.len() - DOORS..] {
            debug!(target: "vmmc::serve", %peer, reply = reply_export(nonce), "asking at a door");
            call.control.send(&open, door(random.into())).notify(nonce).start()?;
            match call.answer(Some(Instant::now() + DOOR_TIME))? {
                Some(Answer::Ready { at }) => {
                    call.at = at;
                    return Ok(call);
                }
                Some(Answer::Refused { why }) => return Err(CallError::Refused { peer, why }),
                Some(_) => return Err(CallError::Nonsense { peer }),
                None => {}
            }
        }
        Err(service.mute(peer))
    }

    /// Writes to the place of the control buffer that is ours, and announces it.
    pub(crate) fn send(&self, bytes: &[u8], tag: u32) -> Result<(), CallError> {
        self.control.send(bytes, self.at).notify(tag).start()?;
        Ok(())
    }

    /// The next answer; `None` when none has come by then.
    pub(crate) fn answer(&self, until: Option<Instant>) -> Result<Option<Answer>, CallError> {
        let peer = self.control.peer();
        loop {
            let Some(news) = self.wait(until)? else { return Ok(None) };
            if news.offset == ANSWER_AT && news.tag == self.nonce && news.length == ANSWER_LEN as u64 {
                let mut bytes = [0; ANSWER_LEN];
                self.reply.read(ANSWER_AT, &mut bytes)?;
                return Answer::parse(&bytes).map(Some).ok_or(CallError::Nonsense { peer });
            }
        }
    }

    /// Waits until `tag` is announced in the reply buffer's body, and copies out what is there.
    pub(crate) fn receive(&self, tag: u32, bytes: &mut [u8]) -> Result<(), CallError> {
        loop {
            let news = self.wait(None)?;
            if news.is_some_and(|n| n.offset == REPLY_BODY_AT && n.tag == tag && n.length == bytes.len() as u64) {
                return Ok(self.reply.read(REPLY_BODY_AT, bytes)?);
            }
        }
    }

    /// Waits for news, until then or for ever, but not longer than the peer and the user do.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Result<Option<Notification>, CallError> {
        loop {
            let left = until.map(|u| u.saturating_duration_since(Instant::now()));
            match self.reply.wait_notification(left.map_or(CHECK_TIME, |l| l.min(CHECK_TIME))) {
                Ok(news) if news.peer == self.control.peer() => return Ok(Some(news)),
                Ok(_) => continue,
                Err(Error::Timeout { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if interrupt::asked() {
                return Err(CallError::Interrupted);
            }
            // Nobody tells a waiting exporter that the peer has died; a send does.
            self.control.send(&[0], SCRATCH_AT).start()?;
            if until.is_some_and(|u| Instant::now() >= u) {
                return Ok(None);
            }
        }
    }
}
