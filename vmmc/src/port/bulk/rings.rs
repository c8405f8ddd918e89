//! The rings that a socket shares with the kernel: one of the two writes entries, the other reads them.
//!
//! ```text
//!   Producer:  fill (addresses), TX (descriptors)            Consumer:  completion (addresses), RX (descriptors)
//!
//!          consumer           producer      next                    consumer     next          producer
//!             |                   |           |                         |          |               |
//!    . . . . [x x x x x x x x x x][w w w w w w] . . .          . . . . [r r r r r r][x x x x x x x x] . . . .
//!             for the kernel       written,                             taken, not   from the kernel
//!                                  not published                        released
//! ```
//!
//! Indices only grow, and wrap at 2^32; an entry's place is its index modulo the ring's size, a power of two. Whoever moves an index does so with a
//! release store, whoever looks at the other's with an acquire load. All that lies in shared memory is accessed as an atomic: what these would be in C, plain
//! loads and stores, they are on every processor.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What an RX or TX entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub address: u64,
    pub length: u32,
    pub options: u32,
}

/// An entry of a ring, as it lies in shared memory.
pub(super) trait Entry {
    type Value: Copy;
    fn load(&self) -> Self::Value;
    fn store(&self, value: Self::Value);
}

/// An entry of the fill and completion rings: an address.
impl Entry for AtomicU64 {
    type Value = u64;

    fn load(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }
}

/// An entry of the RX and TX rings: `struct xdp_desc`.
#[repr(C)]
pub(super) struct SharedDescriptor {
    address: AtomicU64,
    length: AtomicU32,
    options: AtomicU32,
}

impl Entry for SharedDescriptor {
    type Value = Descriptor;

    fn load(&self) -> Descriptor {
        Descriptor {
            address: self.address.load(Ordering::Relaxed),
            length: self.length.load(Ordering::Relaxed),
            options: self.options.load(Ordering::Relaxed),
        }
    }

    fn store(&self, value: Descriptor) {
        self.address.store(value.address, Ordering::Relaxed);
        self.length.store(value.length, Ordering::Relaxed);
        self.options.store(value.options, Ordering::Relaxed);
    }
}

/// Where the parts of a ring lie.
pub(super) struct Ring<E> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<E>,
    size: u32,
}

// SAFETY: a ring is shared memory that is accessed as atomics only, from whichever thread.
unsafe impl<E: Sync> Send for Ring<E> {}

/// The flag by which the kernel says that it sleeps until it is woken.
const NEED_WAKEUP: u32 = 1;

impl<E: Entry> Ring<E> {
    /// A ring of `size` entries, a power of two.
    ///
    /// # Safety
    /// For as long as this ring exists, all four point to memory that is mapped, aligned, and accessed by this ring's two sides only; `entries` to `size` of
    /// them. Only one [`Producer`] or [`Consumer`] is made of it in this process, unless the other plays the kernel.
    pub(super) unsafe fn new(
        producer: NonNull<AtomicU32>,
        consumer: NonNull<AtomicU32>,
        flags: NonNull<AtomicU32>,
        entries: NonNull<E>,
        size: u32,
    ) -> Ring<E> {
        assert!(size.is_power_of_two(), "a ring of {size} entries");
        Ring { producer, consumer, flags, entries, size }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: it is mapped for as long as the ring exists, by `Ring::new`'s contract.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    fn entry(&self, index: u32) -> &E {
        let at = (index & (self.size - 1)) as usize;
        // SAFETY: `at` is below `size`, and so many entries are mapped for as long as the ring exists.
        unsafe { self.entries.add(at).as_ref() }
    }
}

/// The side that writes entries.
pub(super) struct Producer<E> {
    ring: Ring<E>,
    /// Where the next entry is written.
    next: u32,
    /// Up to where the reader has been told.
    published: u32,
    /// Up to where the reader was seen to have read: it may have got further.
    read: u32,
}

impl<E: Entry> Producer<E> {
    /// Goes on where the ring's indices stand.
    pub(super) fn new(ring: Ring<E>) -> Producer<E> {
        let next = ring.producer().load(Ordering::Relaxed);
        let read = ring.consumer().load(Ordering::Acquire);
        Producer { ring, next, published: next, read }
    }

    /// How many entries more there is room for.
    pub(super) fn free(&self) -> usize {
        self.free_if_read(self.ring.consumer().load(Ordering::Acquire))
    }

    /// Whether there is room for so many.
    pub(super) fn has_room(&mut self, entries: usize) -> bool {
        if self.free_if_read(self.read) < entries {
            self.read = self.ring.consumer().load(Ordering::Acquire);
        }
        self.free_if_read(self.read) >= entries
    }

    fn free_if_read(&self, read: u32) -> usize {
        self.ring.size.saturating_sub(self.next.wrapping_sub(read)) as usize
    }

    /// Writes an entry, which the reader isn't told of before [`Producer::publish`]. Returns whether there was room.
    pub(super) fn push(&mut self, value: E::Value) -> bool {
        if !self.has_room(1) {
            return false;
        }
        self.ring.entry(self.next).store(value);
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Hands over all that was written.
    pub(super) fn publish(&mut self) {
        if self.published != self.next {
            self.ring.producer().store(self.next, Ordering::Release);
            self.published = self.next;
        }
    }

    /// How many entries the reader has been told of and hasn't read.
    pub(super) fn unread(&self) -> usize {
        self.published.wrapping_sub(self.ring.consumer().load(Ordering::Acquire)) as usize
    }

    /// Whether the kernel reads nothing more before it is woken.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// The side that reads entries.
pub(super) struct Consumer<E> {
    ring: Ring<E>,
    /// The next entry to read.
    next: u32,
    /// Up to where the writer was seen to have written.
    written: u32,
}

impl<E: Entry> Consumer<E> {
    /// Goes on where the ring's indices stand.
    pub(super) fn new(ring: Ring<E>) -> Consumer<E> {
        let next = ring.consumer().load(Ordering::Relaxed);
        Consumer { ring, next, written: next }
    }

    /// Takes an entry. The writer gets none of the room back before [`Consumer::release`].
    pub(super) fn pop(&mut self) -> Option<E::Value> {
        if self.next == self.written {
            self.written = self.ring.producer().load(Ordering::Acquire);
            if self.next == self.written {
                return None;
            }
        }
        let value = self.ring.entry(self.next).load();
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// How many entries the writer has told of that haven't been taken.
    pub(super) fn unread(&self) -> usize {
        self.ring.producer().load(Ordering::Acquire).wrapping_sub(self.next) as usize
    }

    /// Gives the room of all that was taken back to the writer.
    pub(super) fn release(&mut self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Rings in ordinary memory.

    use super::*;

    /// The memory of a ring. Both sides are made of it, and it outlives them.
    pub(crate) struct Memory<E> {
        indices: Box<[AtomicU32; 3]>,
        entries: Box<[E]>,
    }

    impl Memory<AtomicU64> {
        pub(crate) fn addresses(size: usize, start: u32) -> Memory<AtomicU64> {
            Memory::of((0..size).map(|_| AtomicU64::new(0)).collect(), start)
        }
    }

    impl Memory<SharedDescriptor> {
        pub(crate) fn descriptors(size: usize, start: u32) -> Memory<SharedDescriptor> {
            let empty = |_| SharedDescriptor {
                address: AtomicU64::new(0),
                length: AtomicU32::new(0),
                options: AtomicU32::new(0),
            };
            Memory::of((0..size).map(empty).collect(), start)
        }
    }

    impl<E: Entry> Memory<E> {
        fn of(entries: Box<[E]>, start: u32) -> Memory<E> {
            Memory { indices: Box::new([AtomicU32::new(start), AtomicU32::new(start), AtomicU32::new(0)]), entries }
        }

        /// Both sides.
        ///
        /// # Safety
        /// The memory outlives them.
        pub(crate) unsafe fn sides(&self) -> (Producer<E>, Consumer<E>) {
            let [producer, consumer, flags] = self.indices.each_ref().map(NonNull::from);
            let entries = NonNull::from(&*self.entries).cast();
            // SAFETY: they point into this, which outlives the ring, and are atomics.
            let ring = || unsafe { Ring::new(producer, consumer, flags, entries, self.entries.len() as u32) };
            (Producer::new(ring()), Consumer::new(ring()))
        }

        pub(crate) fn set_needs_wakeup(&self) {
            self.indices[2].store(NEED_WAKEUP, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::testing::Memory;
    use super::*;

    #[test]
    fn nothing_is_seen_before_it_is_published_nor_room_before_it_is_released() {
        let memory = Memory::descriptors(2, u32::MAX);
        // SAFETY: `memory` is dropped last.
        let (mut producer, mut consumer) = unsafe { memory.sides() };
        let descriptor = |length| Descriptor { address: 7 << 48 | 9, length, options: 1 };
        assert!(producer.push(descriptor(1)) && producer.push(descriptor(2)) && !producer.push(descriptor(3)));
        assert_eq!((consumer.pop(), producer.unread()), (None, 0));
        producer.publish();
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(descriptor(1)), Some(descriptor(2)), None));
        assert_eq!((producer.free(), producer.unread()), (0, 2));
        consumer.release();
        assert_eq!((producer.free(), producer.unread()), (2, 0));
        assert!(!producer.needs_wakeup());
        memory.set_needs_wakeup();
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn two_threads_lose_nothing_and_keep_the_order() {
        let memory = Memory::addresses(8, u32::MAX - 20);
        // SAFETY: `memory` outlives the scope in which they are.
        let (mut producer, mut consumer) = unsafe { memory.sides() };
        let all: u64 = if cfg!(miri) { 60 } else { 200_000 };
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut expected = 0;
                while expected < all {
                    while let Some(value) = consumer.pop() {
                        assert_eq!(value, expected);
                        expected += 1;
                    }
                    consumer.release();
                    std::thread::yield_now();
                }
            });
            let mut value = 0;
            while value < all {
                while value < all && producer.push(value) {
                    value += 1;
                }
                producer.publish();
                std::thread::yield_now();
            }
        });
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(u64),
        Publish,
        Pop,
        Release,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![any::<u64>().prop_map(Step::Push), Just(Step::Publish), Just(Step::Pop), Just(Step::Release)]
    }

    proptest! {
        // Miri has no directory to remember failures in, and no time.
        #![proptest_config(match cfg!(miri) {
            true => ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() },
            false => ProptestConfig::default(),
        })]
        #[test]
        fn it_is_a_queue(start: u32, log_size in 0u32..5, steps in prop::collection::vec(step(), 0..if cfg!(miri) { 30 } else { 300 })) {
            let size = 1 << log_size;
            let memory = Memory::addresses(size, start);
            // SAFETY: `memory` is dropped last.
            let (mut producer, mut consumer) = unsafe { memory.sides() };
            let (mut written, mut published, mut taken) = (VecDeque::new(), VecDeque::new(), 0);
            for step in steps {
                match step {
                    Step::Push(value) => {
                        let room = written.len() + published.len() + taken < size;
                        prop_assert_eq!(producer.has_room(1), room);
                        prop_assert_eq!(producer.push(value), room);
                        if room {
                            written.push_back(value);
                        }
                    }
                    Step::Publish => {
                        producer.publish();
                        published.append(&mut written);
                    }
                    Step::Pop => {
                        let value = consumer.pop();
                        taken += usize::from(value.is_some());
                        prop_assert_eq!(value, published.pop_front());
                    }
                    Step::Release => {
                        consumer.release();
                        taken = 0;
                    }
                }
                prop_assert_eq!(producer.free(), size - written.len() - published.len() - taken);
                prop_assert_eq!(producer.unread(), published.len() + taken);
                prop_assert_eq!(consumer.unread(), published.len());
            }
        }
    }
}
