//! Where VMMC's sockets differ from the kernel's TCP, on purpose. Each difference is checked by a case, on both sides: what the case has seen,
//! in `Debug`'s form, must be what the table says.

use crate::world::Family;

/// A difference.
#[derive(Clone, Copy, Debug)]
pub enum Deviation {
    /// A read into an empty buffer while there is nothing to read, in nonblocking mode.
    EmptyRead,
    /// What poll(2) says of a stream that was reset.
    PollOfReset,
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
            Deviation::PollOfReset => Row {
                tcp: "PollFlags(IN | OUT | ERR | HUP | RDHUP)",
                vmmc: "PollFlags(IN | OUT | HUP | RDHUP)",
                why: "the descriptor is one end of a socketpair, and only the kernel can show POLLERR there; the next read tells the error",
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
