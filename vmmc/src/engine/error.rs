//! What can go wrong between two engines.

use std::net::SocketAddr;

use crate::link::LinkEnd;

/// Why the engine can't do something, or couldn't.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A name that no export can have.
    #[error("an export's name has 1 to 128 bytes, and {name:?} has {}", name.len())]
    BadName {
        /// The name.
        name: String,
    },
    /// The node already exports something of this name.
    #[error("this node already exports a buffer named {name:?}: choose another name, or drop that export")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The table of exports is full.
    #[error("this node has as many exports as it can have: drop some")]
    TooManyExports,
    /// The table of imports is full.
    #[error("this node has as many imports as it can have: drop some")]
    TooManyImports,
    /// The table of peers is full.
    #[error("this node has links to as many peers as it was configured for ({most}): open it with a larger max_peers")]
    TooManyPeers {
        /// How many.
        most: usize,
    },
    /// The peer exports nothing of this name.
    #[error("{peer} exports no buffer named {name:?}: check the name, and that the exporter is up")]
    UnknownName {
        /// The peer.
        peer: SocketAddr,
        /// The name.
        name: String,
    },
    /// The peer exports it, but not to us.
    #[error(
        "{peer} refused the import of {name:?}: the key is wrong and this host is not on the export's list of peers, or the export is for another node only"
    )]
    Denied {
        /// The peer.
        peer: SocketAddr,
        /// The name.
        name: String,
    },
    /// The peer gives no more grants to this node.
    #[error("{peer} gives this node no further grants: drop some of its imports, then import {name:?} again")]
    TooManyGrants {
        /// The peer.
        peer: SocketAddr,
        /// The name.
        name: String,
    },
    /// The exporter has taken the buffer back.
    #[error("{peer} has revoked its export {name:?}: import it again once it is exported again")]
    Revoked {
        /// The peer.
        peer: SocketAddr,
        /// The name.
        name: String,
    },
    /// A send reaches past the end of the export.
    #[error("bytes {offset}..{offset}+{length} reach past the end of {name:?}, which has {export} bytes")]
    OutOfRange {
        /// The export's name.
        name: String,
        /// Where the send begins.
        offset: u64,
        /// How long it is, bytes.
        length: u64,
        /// How long the export is, bytes.
        export: u64,
    },
    /// A send of nothing that tells nobody.
    #[error("a send of 0 bytes without notification would do nothing: give it bytes or a tag")]
    Empty,
    /// A notification for an export that takes none.
    #[error("{name:?} takes no notifications: export it with notify(true), or send without a tag")]
    NoNotifications {
        /// The export's name.
        name: String,
    },
    /// Notifications are asked for where they don't go.
    #[error("the notifications of {name:?} go to the Events it was exported with (report_to): take them there")]
    Reported {
        /// The export's name.
        name: String,
    },
    /// A send into an export that is read-only.
    #[error("{name:?} can't be written into: export it with writable(true)")]
    NotWritable {
        /// The export's name.
        name: String,
    },
    /// A fetch from an export that doesn't allow it.
    #[error("{name:?} can't be fetched from: export it with readable(true)")]
    NotReadable {
        /// The export's name.
        name: String,
    },
    /// The peer doesn't answer a fetch as it should have: the two nodes disagree on what is allowed.
    #[error("{peer} refused a fetch from {name:?}, saying that {why}, which it is not as far as this node knows")]
    FetchRefused {
        /// The peer.
        peer: SocketAddr,
        /// The export's name.
        name: String,
        /// What it said.
        why: &'static str,
    },
    /// Bytes can't be lent that the export hasn't got.
    #[error("bytes {start}..{end} of {name:?} can't be lent: it has {export} bytes, and a range begins before it ends")]
    LentOutside {
        /// The export's name.
        name: String,
        /// Where the range begins.
        start: u64,
        /// Where it ends.
        end: u64,
        /// How long the export is, bytes.
        export: u64,
    },
    /// Bytes can't be lent that the kernel may still write.
    #[error(
        "bytes {start}..{end} of {name:?} can't be lent: packets were to land there, and the bulk lane couldn't be opened again to take that back; the log says why. Read them instead, or \
         export another buffer"
    )]
    LendLost {
        /// The export's name.
        name: String,
        /// Where the range begins.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// A send of this node to itself, into bytes that are lent.
    #[error(
        "bytes {offset}..{offset}+{length} of {name:?} can't be written: some of them are lent; drop the Loan first"
    )]
    Lent {
        /// The export's name.
        name: String,
        /// Where the send begins.
        offset: u64,
        /// How long it is, bytes.
        length: u64,
    },
    /// A peer has refused a send into bytes that are lent.
    #[error(
        "{peer} has refused a send into {name:?}, and all that followed: some of its bytes were lent to the program there. \
         Send where it has said that it is done with the data; and import it again"
    )]
    RefusedLent {
        /// The peer.
        peer: SocketAddr,
        /// The name.
        name: String,
    },
    /// The memory has been exported before, and still is.
    #[error("this memory can't be exported as {name:?}: it is exported already, and has one engine to write it")]
    Exported {
        /// The name.
        name: String,
    },
    /// The link to the peer has ended.
    #[error("{} {peer}{}: {end}", link_was(end).0, link_was(end).1)]
    LinkEnded {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        end: LinkEnd,
    },
    /// Own and peer's address don't go together.
    #[error("{peer} can't be reached from {local}: one is IPv4, the other IPv6")]
    Family {
        /// Our address.
        local: SocketAddr,
        /// The peer's.
        peer: SocketAddr,
    },
    /// A redirect of bytes that the export hasn't got.
    #[error(
        "bytes {start}..{end} of {name:?} can't be redirected: it has {export} bytes, and a range begins before it ends"
    )]
    RedirectOutside {
        /// The export's name.
        name: String,
        /// Where the range begins.
        start: u64,
        /// Where it ends.
        end: u64,
        /// How long the export is, bytes.
        export: u64,
    },
    /// The target of a redirect is too short.
    #[error("a redirect of {wanted} bytes needs a target of as many or more, and this one has {target}")]
    RedirectTarget {
        /// How many bytes are to be redirected.
        wanted: u64,
        /// How many the target takes.
        target: usize,
    },
    /// A redirect takes nothing more, because the program has stopped it.
    #[error("the redirect has been stopped: its target holds what had come until then")]
    RedirectStopped,
    /// What has come already lies in too many pieces to be moved to a redirect.
    #[error(
        "what has arrived in {name:?} and was taken by nobody lies in more than {most} pieces, too many to move: \
         take the notifications, or have Export::forget leave it where it is"
    )]
    RedirectScattered {
        /// The export.
        name: String,
        /// How many pieces a redirect can take.
        most: usize,
    },
    /// A redirect takes nothing more, because its export has gone.
    #[error("the export has been dropped while the redirect was posted: its target holds what had come until then")]
    RedirectRevoked,
    /// The target of a redirect or a fetch has panicked.
    #[error("the target has panicked in Target::store: nothing more is written to it")]
    TargetPanicked,
    /// The target of a redirect or a fetch can't be given back, nor a copy of it. What had come into it is lost, and a buffer of no bytes has come back in its place.
    #[error(
        "the target is lost, with what had come: packets may still land in it, as the bulk lane couldn't be opened again (the log says why), and neither the system nor the arena has memory for a \
         copy. An empty buffer has come back in its place: free memory, or descriptors, then receive or fetch it again"
    )]
    TargetLost,
    /// The handle is of an import or export that has been dropped.
    #[error("this import or export has been dropped")]
    Dropped,
}

/// What has become of a link, before and after its peer's name: one that nobody answered has never begun.
fn link_was(end: &LinkEnd) -> (&'static str, &'static str) {
    match end {
        LinkEnd::NoAnswer(_) => ("no link to", " could be opened"),
        _ => ("the link to", " has ended"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_link_that_never_began_has_not_ended() {
        let peer = "10.77.0.2:7000".parse().unwrap();
        let text = |end| EngineError::LinkEnded { peer, end }.to_string();
        let nobody = text(LinkEnd::NoAnswer(Duration::from_secs(2)));
        assert!(
            nobody.starts_with("no link to 10.77.0.2:7000 could be opened: it did not answer within 2s"),
            "{nobody}"
        );
        let silent = text(LinkEnd::Silent(Duration::from_nanos(5_004_014_903)));
        assert!(silent.starts_with("the link to 10.77.0.2:7000 has ended: it has been silent for 5.0s: "), "{silent}");
    }
}
