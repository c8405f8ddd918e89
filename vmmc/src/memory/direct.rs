//! Memory that the kernel itself reads and writes: what packets of the bulk lane are gathered from, and where they land.
//!
//! Both types keep the memory for as long as anybody has a clone of them, and the lane has one for each packet that it has handed to the kernel, and for
//! each place that it has posted. So whatever the engine does, memory doesn't go back to the arena, or to the program, while the kernel may still
//! touch it: [`DirectTarget::into_buffer`] gives a buffer back only when the lane has let go of it.

use std::sync::Arc;

use super::paged::PinnedPart;
use super::{Arena, Buffer, GUARD, MemoryError, PagedBuffer, PagedHold, Region, copy};

/// Bytes that are copied, or looked at, at once.
const CHUNK: usize = 4096;

/// Memory of the arena that packets are sent from without being copied. Nobody writes it meanwhile, unless it is a region: then what is sent is as
/// mixed as what a reader of it would see.
///
/// Pages of a paged buffer stay where they are as long as anybody has a clone.
#[derive(Clone, Debug)]
pub struct DirectSource {
    from: Arc<From>,
}

#[derive(Debug)]
enum From {
    Buffer(Arc<Buffer>),
    Region(Region),
    Pages(PinnedPart),
}

/// What a [`DirectSource`] was made of.
#[derive(Debug)]
pub enum Origin {
    /// A buffer.
    Buffer(Arc<Buffer>),
    /// An export.
    Region(Region),
    /// A paged buffer.
    Paged(Arc<PagedBuffer>),
}

impl DirectSource {
    /// A buffer, which can be had [back](DirectSource::into_origin).
    pub fn of_buffer(buffer: Arc<Buffer>) -> DirectSource {
        DirectSource { from: Arc::new(From::Buffer(buffer)) }
    }

    /// An export.
    pub fn of_region(region: Region) -> DirectSource {
        DirectSource { from: Arc::new(From::Region(region)) }
    }

    /// A paged buffer, which can be had [back](DirectSource::into_origin). `hold` is one of this buffer, and all of its pages are pinned; other pages can't be sent.
    pub(crate) fn of_paged(buffer: Arc<PagedBuffer>, hold: PagedHold<'static>) -> DirectSource {
        DirectSource { from: Arc::new(From::Pages(PinnedPart::new(buffer, hold))) }
    }

    /// Length, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        match &*self.from {
            From::Buffer(buffer) => buffer.len(),
            From::Region(region) => region.len(),
            From::Pages(part) => part.buffer().len(),
        }
    }

    /// Where in `arena` bytes `at..at + len` of this lie: runs of neighbouring bytes, in order, each with where it begins and how long it is. `None` when it has no such bytes, some of them
    /// aren't pinned, or it is of another arena.
    ///
    /// All but those of a paged buffer are one run. In such a buffer, runs begin and end at pages of the arena, and so as many bytes as fill n pages are in n + 1 runs at the most.
    pub fn runs(&self, arena: &Arena, at: usize, len: usize) -> Option<impl Iterator<Item = (u64, usize)>> {
        if at > self.len() || len > self.len() - at {
            return None;
        }
        let (whole, pages) = match &*self.from {
            From::Buffer(buffer) => (Some(buffer.place(arena)?), None),
            From::Region(region) => (Some(region.place(arena)?), None),
            From::Pages(part) => (None, Some(part.runs(arena, at, len)?)),
        };
        Some(whole.map(|start| (start + at as u64, len)).into_iter().chain(pages.into_iter().flatten()))
    }

    /// All of its bytes, if nobody can be writing them.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &*self.from {
            From::Buffer(buffer) => Some(buffer),
            From::Region(_) => None,
            From::Pages(part) => Some(part.buffer()),
        }
    }

    /// Whether nobody else has a clone.
    pub fn is_free(&self) -> bool {
        Arc::strong_count(&self.from) == 1
    }

    /// Whether the other is a clone of this.
    pub fn is(&self, other: &DirectSource) -> bool {
        Arc::ptr_eq(&self.from, &other.from)
    }

    /// What it was made of. Pages may be moved again.
    ///
    /// # Errors
    /// When others have a clone of this, such as a lane that is sending from it. It comes back.
    pub fn into_origin(self) -> Result<Origin, DirectSource> {
        match Arc::try_unwrap(self.from) {
            Ok(From::Buffer(buffer)) => Ok(Origin::Buffer(buffer)),
            Ok(From::Region(region)) => Ok(Origin::Region(region)),
            Ok(From::Pages(part)) => Ok(Origin::Paged(part.into_buffer())),
            Err(from) => Err(DirectSource { from }),
        }
    }

    /// Hands bytes `at..at + len` to `take`, in pieces and in order. What reaches past the end isn't there.
    pub fn for_each(&self, at: usize, len: usize, mut take: impl FnMut(&[u8])) {
        if let Some(all) = self.bytes() {
            let end = at.saturating_add(len).min(all.len());
            take(&all[at.min(end)..end]);
        } else if let From::Region(region) = &*self.from {
            chunks(at, len, |at, bytes| region.read(at, bytes), take);
        }
    }
}

/// Reads shared memory piece by piece.
fn chunks(
    at: usize,
    len: usize,
    read: impl Fn(u64, &mut [u8]) -> Result<(), MemoryError>,
    mut take: impl FnMut(&[u8]),
) {
    let mut chunk = [0; CHUNK];
    for done in (0..len).step_by(CHUNK) {
        let bytes = &mut chunk[..CHUNK.min(len - done)];
        if read((at + done) as u64, bytes).is_err() {
            return;
        }
        take(bytes);
    }
}

/// Memory of the arena where packets land.
#[derive(Clone, Debug)]
pub struct DirectTarget {
    to: Arc<To>,
}

#[derive(Debug)]
enum To {
    Buffer(Buffer),
    Region(Region),
}

impl DirectTarget {
    /// A buffer, which nobody else has until it is had [back](DirectTarget::into_buffer).
    pub fn of_buffer(buffer: Buffer) -> DirectTarget {
        DirectTarget { to: Arc::new(To::Buffer(buffer)) }
    }

    /// An export.
    pub fn of_region(region: Region) -> DirectTarget {
        DirectTarget { to: Arc::new(To::Region(region)) }
    }

    /// The buffer it was made of.
    ///
    /// # Errors
    /// When others have a clone of this, such as a lane that has posted places in it, or when it is no buffer. It comes back.
    pub fn into_buffer(self) -> Result<Buffer, DirectTarget> {
        match Arc::try_unwrap(self.to) {
            Ok(To::Buffer(buffer)) => Ok(buffer),
            Ok(to) => Err(DirectTarget { to: Arc::new(to) }),
            Err(to) => Err(DirectTarget { to }),
        }
    }

    /// The buffer it was made of, or another of the same length that holds the same, where others keep that one. It is of an arena of its own if the system has memory for one, and otherwise of
    /// the same arena.
    ///
    /// # Errors
    /// When neither has so much. Then it is a buffer of no bytes, for whom any will do.
    pub(crate) fn into_buffer_or_copy(self) -> Result<Buffer, Buffer> {
        let kept = match self.into_buffer() {
            Ok(buffer) => return Ok(buffer),
            Err(kept) => kept,
        };
        let (arena, len) = (kept.arena(), kept.len());
        let of_its_own = Arena::new(Arena::footprint(len)).and_then(|own| own.buffer(len));
        let copied = of_its_own.or_else(|_| arena.buffer(len)).and_then(|mut copy| {
            kept.read(0, &mut copy)?;
            Ok(copy)
        });
        copied.map_err(|_| Buffer::empty(arena.clone()))
    }

    /// Whether nobody else has a clone.
    pub fn is_free(&self) -> bool {
        Arc::strong_count(&self.to) == 1
    }

    fn arena(&self) -> &Arena {
        match &*self.to {
            To::Buffer(buffer) => buffer.arena(),
            To::Region(region) => region.arena(),
        }
    }

    /// Length, bytes.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        match &*self.to {
            To::Buffer(buffer) => buffer.len(),
            To::Region(region) => region.len(),
        }
    }

    /// Where in `arena` bytes `at..at + len` of this begin; `None` when it has no such bytes, or is of another arena.
    pub fn place(&self, arena: &Arena, at: usize, len: usize) -> Option<u64> {
        let inside = at <= self.len() && len <= self.len() - at;
        let start = match &*self.to {
            To::Buffer(buffer) => buffer.place(arena)?,
            To::Region(region) => region.place(arena)?,
        };
        inside.then_some(start + at as u64)
    }

    /// Copies bytes from `at` on to `bytes`.
    ///
    /// # Errors
    /// When that reaches past the end; then nothing is read.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        match &*self.to {
            To::Region(region) => region.read(at, bytes),
            To::Buffer(buffer) => {
                let from = buffer.range(at, bytes.len())?;
                // SAFETY: the bytes lie within the buffer. No slice of it exists: its owner has given it away for as long as this lives. Others who
                // have a clone of this access it by these two functions, and the kernel as another process would.
                unsafe { copy::load(from, bytes) };
                Ok(())
            }
        }
    }

    /// Copies `bytes` to `at`.
    ///
    /// # Errors
    /// When that reaches past the end, or some of it is lent; then nothing is written.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        match &*self.to {
            To::Region(region) => region.write(at, bytes),
            To::Buffer(buffer) => {
                let to = buffer.range(at, bytes.len())?;
                // SAFETY: as in `read`.
                unsafe { copy::store(to, bytes) };
                Ok(())
            }
        }
    }

    /// Copies `bytes` to where a NIC puts a frame that has `before` bytes of headers in front of what belongs at `at`: it begins so many bytes before. What would lie
    /// before the first byte of this falls on the [guard](super::GUARD) in front of it.
    ///
    /// # Errors
    /// As [`DirectTarget::write`]; or when the guard isn't so long. Then at most the guard is written.
    pub(crate) fn write_from_guard(&self, at: usize, before: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let below = before.saturating_sub(at);
        if below > GUARD {
            return Err(MemoryError::OutOfRange { offset: at as u64, len: bytes.len(), region: self.len() });
        }
        let (guard, inside) = bytes.split_at(below.min(bytes.len()));
        let start = match &*self.to {
            To::Buffer(buffer) => buffer.range(0, 0)?,
            To::Region(region) => region.pointer(),
        };
        // SAFETY: in front of each block of the arena are `GUARD` bytes that are nobody's, as long as somebody has the block. What else lands there is
        // written by this function, or by the kernel.
        unsafe { copy::store(start.wrapping_sub(below), guard) };
        self.write(at.saturating_sub(before) as u64, inside)
    }

    /// Hands bytes `at..at + len` to `take`, in pieces and in order. What reaches past the end isn't there.
    pub fn for_each(&self, at: usize, len: usize, take: impl FnMut(&[u8])) {
        chunks(at, len, |at, bytes| self.read(at, bytes), take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_nobody_else_has_it() {
        let arena = Arena::new(1 << 16).unwrap();
        let target = DirectTarget::of_buffer(arena.buffer(5000).unwrap());
        let posted = target.clone();
        posted.write(4990, &[7; 10]).unwrap();
        assert!(posted.write(4991, &[7; 10]).is_err());
        assert!(!target.is_free());
        let target = target.into_buffer().unwrap_err();
        let copy = target.into_buffer_or_copy().unwrap();
        assert_eq!(copy[4989..], [&[0][..], &[7; 10]].concat());
        assert!(copy.place(&arena).is_none());
        let buffer = posted.into_buffer_or_copy().unwrap();
        assert_eq!((buffer[4989], &buffer[4990..]), (0, &[7; 10][..]));
        assert!(buffer.place(&arena).is_some());
        let region = DirectTarget::of_region(arena.alloc(100).unwrap());
        assert!(region.into_buffer().is_err());
    }

    #[test]
    fn headers_fall_on_the_guard() {
        let arena = Arena::new(1 << 16).unwrap();
        let (mut below, regions) = (arena.buffer(100).unwrap(), [arena.alloc(100).unwrap(), arena.alloc(100).unwrap()]);
        below.fill(1);
        regions[1].fill(2).unwrap();
        for target in [DirectTarget::of_region(regions[0].clone()), DirectTarget::of_buffer(arena.buffer(100).unwrap())]
        {
            target.write_from_guard(50, 66, &[7; 116]).unwrap();
            let mut seen = Vec::new();
            target.for_each(0, 100, |bytes| seen.extend_from_slice(bytes));
            assert_eq!(seen, [7; 100]);
            // A frame that doesn't reach so far, and one that lies inside.
            target.write_from_guard(0, 66, &[8; 60]).unwrap();
            target.write_from_guard(60, 10, &[9; 20]).unwrap();
            seen.clear();
            target.for_each(0, 100, |bytes| seen.extend_from_slice(bytes));
            assert_eq!(seen, [&[7; 50][..], &[9; 20], &[7; 30]].concat());
            assert!(target.write_from_guard(0, GUARD + 1, &[7; 300]).is_err());
            assert!(target.write_from_guard(50, 50, &[7; 101]).is_err());
        }
        let mut seen = [0; 100];
        regions[1].read(0, &mut seen).unwrap();
        assert_eq!((&below[..], seen), (&[1; 100][..], [2; 100]));
    }

    #[test]
    fn places_are_of_one_arena() {
        let (arena, other) = (Arena::new(1 << 16).unwrap(), Arena::new(1 << 16).unwrap());
        let buffer = Arc::new(arena.buffer(5000).unwrap());
        let source = DirectSource::of_buffer(buffer.clone());
        let runs = |arena, at, len| source.runs(arena, at, len).map(Vec::from_iter);
        let [(start, 5000)] = runs(&arena, 0, 5000).unwrap()[..] else { panic!("{:?}", runs(&arena, 0, 5000)) };
        assert_eq!(runs(&arena, 10, 4990), Some(vec![(start + 10, 4990)]));
        for (at, len) in [(0, 5001), (5001, 0), (1, usize::MAX)] {
            assert_eq!(runs(&arena, at, len), None);
        }
        assert_eq!(runs(&other, 0, 1), None);
        let region = arena.alloc(5000).unwrap();
        region.write(0, &[3; 5000]).unwrap();
        let target = DirectTarget::of_region(region.clone());
        assert_eq!(target.place(&other, 0, 1), None);
        assert!(target.place(&arena, 0, 5000).is_some_and(|at| at != start));
        let mut seen = Vec::new();
        DirectSource::of_region(region).for_each(100, 4500, |bytes| seen.extend_from_slice(bytes));
        assert_eq!(seen, [3; 4500]);
        seen.clear();
        target.for_each(4999, 1, |bytes| seen.extend_from_slice(bytes));
        source.for_each(4000, 5000, |bytes| seen.extend_from_slice(bytes));
        assert_eq!(seen.len(), 1001);
    }
}
