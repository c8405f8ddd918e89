//! The memory of an export in place: lent to be read, or given back to the system.

use std::ops::Range;

use super::Export;
use crate::error::Error;
use crate::memory::Loan;

impl Export {
    /// Lends a part of the export: its bytes in place, as a slice that nobody writes as long as the [`Loan`] lives. Nothing is copied.
    ///
    /// Lend what has come and been announced, and nothing else, and have the senders write elsewhere until the loan is dropped: by the protocol that
    /// the programs have between them, as with a ring. A peer that sends to some of these bytes all the same is refused, as one is that sends past
    /// the end: that send fails there with [`EngineError::RefusedLent`](crate::EngineError::RefusedLent), and so do all later ones of that import. It is
    /// refused also when a redirect would have taken the bytes. Sends of this node to itself, [`Export::write`] and [`Export::discard`] fail with errors
    /// that say why, and nothing has happened then. Reading, fetches, and redirects that take what has come already are not concerned.
    ///
    /// Loans may overlap, and be sent to other threads. One that outlives the export keeps its memory, all of it, from going back to the arena.
    ///
    /// Waits, if need be, until an [`Export::write`] or [`Export::discard`] of another thread has come to its end; the node waits with it.
    ///
    /// # Errors
    /// When the range doesn't lie inside the export, or this has been [revoked](Export::revoke); or when the bulk lane was lost while packets were to land there.
    ///
    /// ```no_run
    /// use vmmc::{Key, Node};
    ///
    /// # fn main() -> Result<(), vmmc::Error> {
    /// let node = Node::builder().interface("vh2").open()?;
    /// let inbox = node.export("inbox").len(1 << 20).key(Key::PUBLIC).notify(true).create()?;
    /// let news = inbox.wait_notification(None)?;
    /// let bytes = inbox.lend(news.offset..news.offset + news.length)?;
    /// println!("{} lines", bytes.iter().filter(|&&byte| byte == b'\n').count());
    /// drop(bytes); // from here on the sender may write there again, and has to be told so
    /// # Ok(())
    /// # }
    /// ```
    pub fn lend(&self, range: Range<u64>) -> Result<Loan, Error> {
        let shared = &self.handle.shared;
        let mut core = shared.enter();
        let export = self.live()?;
        let loan = core.with(|engine, _, port| engine.lend(port, export, range));
        shared.leave(&mut core);
        Ok(loan?)
    }

    /// Gives the memory of a part of the export back to the system: all of it reads as zeros from then on, and of the whole pages inside the range no
    /// memory is left. It is taken again as it is written or read. What has come there is also [forgotten](Export::forget). Meant for exports that are
    /// [`sparse`](super::ExportBuilder::sparse), whose pages begin at multiples of 4096 (or of the machine's page size, where that is another); others
    /// begin somewhere in a page. An arena in huge pages keeps its memory: there the range is zeroed, and no more.
    ///
    /// What a peer sends there meanwhile may be there afterwards, or zeros, and no redirect moves it. Doesn't block the node.
    ///
    /// # Errors
    /// When the range doesn't lie inside the export, or some of it is [lent](Export::lend). Then nothing has happened.
    pub fn discard(&self, range: Range<u64>) -> Result<(), Error> {
        self.region.discard(range.clone())?;
        self.forget(range);
        Ok(())
    }
}
