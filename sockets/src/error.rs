//! Errors: what went wrong, as the [`io::Error`] that the same trouble gives with TCP.
//!
//! The kind is the one that std's documentation of `TcpStream` and `TcpListener` names; the error inside says what was tried, what was found and what
//! to do.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use vmmc::{EngineError, LinkEnd};

/// What went wrong on a stream or listener. It is inside the [`io::Error`]s that calls return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Nobody listens at that port.
    #[error("{address} refused the connection: nobody there listens at that port")]
    Refused {
        /// The address.
        address: SocketAddr,
    },
    /// The listener has as many connections waiting as it takes.
    #[error("{address} took no connection within {after:.1?}: its listener accepts too slowly")]
    Busy {
        /// The address.
        address: SocketAddr,
        /// How long it was tried.
        after: Duration,
    },
    /// No answer.
    #[error(
        "{address} didn't answer within {after:.1?}: is a program with stream sockets running there, and does UDP port {port} reach it?"
    )]
    NoAnswer {
        /// The address.
        address: SocketAddr,
        /// How long it was tried.
        after: Duration,
        /// Its node's UDP port.
        port: u16,
    },
    /// Something else is wrong between the nodes.
    #[error("{address}: {text}")]
    Node {
        /// The other end.
        address: SocketAddr,
        /// What the node says.
        text: String,
    },
    /// The peer has closed the stream without reading all, or killed it.
    #[error("{peer} has reset the connection")]
    Reset {
        /// The other end.
        peer: SocketAddr,
    },
    /// The node of the peer is gone.
    #[error("the connection to {peer} is lost: {why}")]
    Lost {
        /// The other end.
        peer: SocketAddr,
        /// What the link says.
        why: String,
    },
    /// The peer has broken the protocol.
    #[error("the connection to {peer} was reset here, because the other side broke the protocol: {why}")]
    Violation {
        /// The other end.
        peer: SocketAddr,
        /// How.
        why: String,
    },
    /// The peer doesn't read any more, or this side has been shut down for writing.
    #[error("{0}")]
    Pipe(&'static str),
}

impl SocketError {
    /// The kind that TCP gives.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SocketError::Refused { .. } => ErrorKind::ConnectionRefused,
            SocketError::Busy { .. } | SocketError::NoAnswer { .. } => ErrorKind::TimedOut,
            SocketError::Node { .. } => ErrorKind::Other,
            SocketError::Reset { .. } | SocketError::Lost { .. } | SocketError::Violation { .. } => {
                ErrorKind::ConnectionReset
            }
            SocketError::Pipe(_) => ErrorKind::BrokenPipe,
        }
    }
}

impl From<SocketError> for io::Error {
    fn from(error: SocketError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// The node can't be used for what was tried.
pub(crate) fn from_node(error: vmmc::Error) -> io::Error {
    let kind = match &error {
        vmmc::Error::Engine(EngineError::LinkEnded { end: LinkEnd::NoAnswer(_), .. }) | vmmc::Error::Timeout { .. } => {
            ErrorKind::TimedOut
        }
        vmmc::Error::Engine(EngineError::LinkEnded { .. } | EngineError::Revoked { .. } | EngineError::Dropped) => {
            ErrorKind::ConnectionReset
        }
        // There is a node, and it has no stack.
        vmmc::Error::Engine(EngineError::UnknownName { .. } | EngineError::Denied { .. }) => {
            ErrorKind::ConnectionRefused
        }
        vmmc::Error::Engine(EngineError::Family { .. }) | vmmc::Error::Config(_) => ErrorKind::InvalidInput,
        vmmc::Error::Route(_) => ErrorKind::HostUnreachable,
        vmmc::Error::NoSuchAddress { .. } => ErrorKind::AddrNotAvailable,
        vmmc::Error::Memory(_) => ErrorKind::OutOfMemory,
        vmmc::Error::Wire(source) | vmmc::Error::System { source, .. } => source.kind(),
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// The same error once more, for everybody who waits for the same thing.
pub(crate) fn again(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<SocketError>()) {
        Some(inner) => inner.clone().into(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
