//! Where VMMC's sockets differ from the kernel's TCP, on purpose. Each difference is checked by a case, on both sides: what the case has seen,
//! in `Debug`'s form, must be what the table says.

use crate::world::Family;

/// A difference.
#[derive(Clone, Copy, Debug)]
pub enum Deviation {
    /// A read into an empty buffer while there is nothing to read, in nonblocking mode.
    EmptyRead,
    /// A read of what had come before this side said that it reads no more.
    ReadAfterShutdown,
    /// A write to a peer that is known to read no more.
    WriteToWhoReadsNoMore,
    /// What poll(2) says of a stream that was reset.
    PollOfReset,
    /// Whether a clone has a descriptor of its own.
    DescriptorOfClone,
    /// The peer's address, once the peer has reset the stream.
    PeerAfterReset,
}

/// What each family does, and why they differ.
pub struct Row {
    pub tcp: &'static str,
    pub vmmc: &'static str,
    pub why: &'static str,
}

impl Deviation {
    fn row(self) -> Row {
        match self {
            Deviation::EmptyRead => Row {
                tcp: "Err(WouldBlock)",
                vmmc: "Ok(0)",
                why: "std's Read lets both pass; that nothing was asked for is known without looking",
            },
            Deviation::ReadAfterShutdown => Row { tcp: "Ok(5)", vmmc: "Ok(5)", why: "?" },
            Deviation::WriteToWhoReadsNoMore => Row { tcp: "Ok(7)", vmmc: "Ok(7)", why: "?" },
            Deviation::PollOfReset => Row {
                tcp: "PollFlags(IN | OUT | ERR | HUP | RDHUP)",
                vmmc: "PollFlags(IN | OUT | HUP | RDHUP)",
                why: "?",
            },
            Deviation::DescriptorOfClone => Row {
                tcp: "\"its own\"",
                vmmc: "\"the same\"",
                why: "a stream has one descriptor, which is made when it is first asked for; all its clones show it",
            },
            Deviation::PeerAfterReset => Row {
                tcp: "Err(NotConnected)",
                vmmc: "Ok(\"the peer\")",
                why: "who the peer was is still known, and of use in a message",
            },
        }
    }

    /// Compares what was seen with what the table says.
    #[track_caller]
    pub fn check(self, family: Family, seen: &str) {
        let row = self.row();
        let expected = match family {
            Family::Tcp => row.tcp,
            Family::Vmmc => row.vmmc,
        };
        assert_eq!(seen, expected, "{self:?}, in which {family:?} is to differ because {}", row.why);
    }
}
