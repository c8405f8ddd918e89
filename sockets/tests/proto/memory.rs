//! A session export, and what the model knows of it: whose each ring is, and which bytes hold what hasn't been read.

use vmmc_sockets::proto::layout::{MIN_RING, RINGS};

/// Those of the first streams, which are the only ones.
const SLOTS_USED: usize = 8192;

/// Which end of a stream a ring belongs to.
pub type Owner = u64;

/// A redirect: bytes that land in its place go into `taken`.
pub struct Redirect {
    pub owner: Owner,
    pub offset: u64,
    pub len: u64,
    pub taken: Vec<u8>,
}

/// The memory of one export.
pub struct Memory {
    slots: Vec<u8>,
    /// Bytes of the rings; Some while unread.
    rings: Vec<Option<u8>>,
    owners: Vec<Option<Owner>>,
    pub redirects: Vec<Redirect>,
}

impl Memory {
    pub fn new(export_len: u64) -> Memory {
        let rings = (export_len - RINGS) as usize;
        Memory {
            slots: vec![0xee; SLOTS_USED],
            rings: vec![None; rings],
            owners: vec![None; rings / MIN_RING as usize],
            redirects: Vec::new(),
        }
    }

    pub fn own(&mut self, owner: Owner, (offset, len): (u64, u64)) {
        for page in self.pages(offset, len) {
            assert_eq!(self.owners[page], None, "the ring at {offset} belongs to two");
            self.owners[page] = Some(owner);
        }
    }

    pub fn disown(&mut self, owner: Owner, (offset, len): (u64, u64)) {
        assert!(self.redirects.iter().all(|r| r.offset + r.len <= offset || offset + len <= r.offset), "redirected");
        for page in self.pages(offset, len) {
            assert_eq!(self.owners[page].take(), Some(owner), "the ring at {offset} belonged to another");
        }
        let start = (offset - RINGS) as usize;
        self.rings[start..start + len as usize].fill(None);
    }

    pub fn owner(&self, offset: u64) -> Option<Owner> {
        self.owners[self.pages(offset, 1).start]
    }

    pub fn is_free(&self) -> bool {
        self.owners.iter().all(Option::is_none) && self.redirects.is_empty()
    }

    fn pages(&self, offset: u64, len: u64) -> std::ops::Range<usize> {
        let (start, end) = (offset - RINGS, offset + len - RINGS);
        (start / MIN_RING) as usize..end.div_ceil(MIN_RING) as usize
    }

    /// A byte of a stream lands. `owner` is whose ring it must lie in; None if the writer is mad.
    pub fn land(&mut self, offset: u64, byte: u8, owner: Option<Owner>) {
        if let Some(owner) = owner {
            assert!(offset >= RINGS, "data in the slots, at {offset}");
            assert_eq!(self.owner(offset), Some(owner), "data at {offset}, in a ring that isn't granted");
        }
        let redirect = self.redirects.iter_mut().find(|r| (r.offset..r.offset + r.len).contains(&offset));
        if let Some(redirect) = redirect.filter(|r| r.offset + r.taken.len() as u64 == offset) {
            redirect.taken.push(byte);
            return;
        }
        let cell = &mut self.rings[(offset - RINGS) as usize];
        assert!(owner.is_none() || cell.is_none(), "unread data at {offset} are overwritten");
        *cell = Some(byte);
    }

    /// The program reads a byte, which must be there; whoever doesn't care gets none.
    pub fn read(&mut self, offset: u64, owner: Owner) -> Option<u8> {
        assert_eq!(self.owner(offset), Some(owner), "a read at {offset}, in another's ring");
        self.rings[(offset - RINGS) as usize].take()
    }

    /// Posts a redirect. As the engine does, it moves what has landed there already, and nobody has taken.
    pub fn redirect(&mut self, owner: Owner, offset: u64, len: u64) {
        let start = (offset - RINGS) as usize;
        let taken = self.rings[start..start + len as usize].iter_mut().map_while(Option::take).collect();
        self.redirects.push(Redirect { owner, offset, len, taken });
    }

    pub fn slot(&self, offset: u64, len: usize) -> &[u8] {
        &self.slots[offset as usize..][..len]
    }

    /// Writes into a slot.
    pub fn write_slot(&mut self, offset: u64, bytes: &[u8]) {
        self.slots[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
}
