//! The receiver's judgement: every notification and every byte is held against what the sender must have sent.
//!
//! After a message has been checked its place is cleared, so when a whole batch has been checked all of its half must be
//! clear: a byte that was written where it doesn't belong, or a second time, stands out. A byte that is written twice *before*
//! it is checked is found by counting: the engine must have written no more bytes than there were.

use super::traffic::{BEGIN, BUFFER, CONTROL, END, HALF, Message, batch, half};

/// The buffer that messages arrive in.
pub(super) trait Memory {
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), vmmc::Error>;
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), vmmc::Error>;
}

impl Memory for vmmc::Export {
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), vmmc::Error> {
        vmmc::Export::read(self, offset, bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), vmmc::Error> {
        vmmc::Export::write(self, offset, bytes)
    }
}

/// What is not as it must be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mismatch {
    #[error(
        "message {number} was to be announced with (tag, offset, length) {expected:?}, but what came was {found:?}"
    )]
    Notification { number: u64, expected: (u32, u64, u64), found: (u32, u64, u64) },

    #[error("a message was announced, (tag, offset, length) {found:?}, before the sender has said where it begins")]
    Early { found: (u32, u64, u64) },

    #[error(
        "message {number}: {wrong} of {length} bytes differ, the first at {at}: {found:#04x} instead of {expected:#04x}"
    )]
    Bytes { number: u64, length: usize, wrong: usize, at: usize, found: u8, expected: u8 },

    #[error("after batch {batch} byte {at} of the buffer is {found:#04x}, and nothing was to be written there")]
    Stray { batch: u64, at: u64, found: u8 },

    #[error("the sender ends before batch {end}, but batch {expected} is not complete: {missing} messages are missing")]
    Missing { end: u64, expected: u64, missing: usize },

    #[error("the sender began anew, with batch {batch}, though this receiver was there all the time")]
    Again { batch: u64 },

    #[error("{written} bytes have been written into the buffer, but only {sent} were sent")]
    Written { written: u64, sent: u64 },

    #[error("reading the buffer: {0}")]
    Memory(#[from] vmmc::Error),
}

/// What the receiver has to do after a notification.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Wait for the next one.
    GoOn,
    /// The sender has said with which batch it begins.
    Begun,
    /// Tell the sender that this batch has been verified: its half is free.
    Verified(u64),
    /// All is well, and that was all.
    Finished,
}

/// Checks what arrives in one life of a receiver.
pub(super) struct Checker {
    seed: u64,
    begun: bool,
    batch: u64,
    /// Of this batch, and how many of them have come.
    messages: Vec<Message>,
    index: usize,
    /// Bytes that were sent, control words included.
    pub(super) sent: u64,
    /// Of those, how many were content, and in how many messages.
    pub(super) bytes: u64,
    pub(super) verified: u64,
    expected: Vec<u8>,
    found: Vec<u8>,
}

impl Checker {
    /// A checker to which nothing has happened.
    pub(super) fn new(seed: u64) -> Checker {
        Checker {
            seed,
            begun: false,
            batch: 0,
            messages: Vec::new(),
            index: 0,
            sent: 0,
            bytes: 0,
            verified: 0,
            expected: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Judges one notification and what it announces. `written` is how many bytes the engine says it has written: asked
    /// for at the end.
    pub(super) fn judge(
        &mut self,
        memory: &impl Memory,
        (tag, offset, length): (u32, u64, u64),
        written: impl FnOnce() -> Result<u64, vmmc::Error>,
    ) -> Result<Verdict, Mismatch> {
        if (tag == BEGIN || tag == END) && (offset, length) == (CONTROL, (BUFFER as u64 - CONTROL)) {
            let mut word = [0; (BUFFER as u64 - CONTROL) as usize];
            memory.read(offset, &mut word)?;
            self.sent += length;
            let batch = u64::from_le_bytes(word);
            return if tag == BEGIN { self.begin(batch) } else { self.end(batch, written()?) };
        }
        if !self.begun {
            return Err(Mismatch::Early { found: (tag, offset, length) });
        }
        // There always is one: a batch is never empty, and after its last message comes the next batch.
        let message = self.messages[self.index].clone();
        let expected = (message.tag(), message.offset, message.length as u64);
        if (tag, offset, length) != expected {
            let number = message.number;
            return Err(Mismatch::Notification { number, expected, found: (tag, offset, length) });
        }
        self.compare(memory, &message)?;
        self.sent += length;
        self.bytes += length;
        self.verified += 1;
        self.index += 1;
        if self.index < self.messages.len() {
            return Ok(Verdict::GoOn);
        }
        self.sweep(memory)?;
        self.turn_to(self.batch + 1);
        Ok(Verdict::Verified(self.batch - 1))
    }

    fn turn_to(&mut self, number: u64) {
        self.batch = number;
        self.messages = batch(self.seed, number);
        self.index = 0;
    }

    fn begin(&mut self, batch: u64) -> Result<Verdict, Mismatch> {
        if std::mem::replace(&mut self.begun, true) {
            return Err(Mismatch::Again { batch });
        }
        self.turn_to(batch);
        Ok(Verdict::Begun)
    }

    fn end(&self, end: u64, written: u64) -> Result<Verdict, Mismatch> {
        if (self.batch, self.index) != (end, 0) {
            let missing = self.messages.len() - self.index;
            return Err(Mismatch::Missing { end, expected: self.batch, missing });
        }
        if written != self.sent {
            return Err(Mismatch::Written { written, sent: self.sent });
        }
        Ok(Verdict::Finished)
    }

    /// Compares a message with what must have been sent, and clears its place.
    fn compare(&mut self, memory: &impl Memory, message: &Message) -> Result<(), Mismatch> {
        let length = message.length;
        self.expected.resize(length, 0);
        self.found.resize(length, 0);
        message.fill(self.seed, &mut self.expected);
        memory.read(message.offset, &mut self.found)?;
        if self.expected != self.found {
            let wrong = |(a, b): (&u8, &u8)| a != b;
            let count = self.expected.iter().zip(&self.found).filter(|&pair| wrong(pair)).count();
            let at = self.expected.iter().zip(&self.found).position(wrong).unwrap_or_default();
            let (found, expected) = (self.found[at], self.expected[at]);
            return Err(Mismatch::Bytes { number: message.number, length, wrong: count, at, found, expected });
        }
        self.found.fill(0);
        Ok(memory.write(message.offset, &self.found)?)
    }

    /// Makes sure that nothing is left in the half of the batch that has just been checked.
    fn sweep(&mut self, memory: &impl Memory) -> Result<(), Mismatch> {
        self.found.resize(HALF, 0);
        let from = half(self.batch);
        memory.read(from, &mut self.found)?;
        match self.found.iter().position(|byte| *byte != 0) {
            None => Ok(()),
            Some(at) => Err(Mismatch::Stray { batch: self.batch, at: from + at as u64, found: self.found[at] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    impl Memory for RefCell<Vec<u8>> {
        fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), vmmc::Error> {
            bytes.copy_from_slice(&self.borrow()[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), vmmc::Error> {
            self.borrow_mut()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    const SEED: u64 = 11;

    /// A receiver to which a sender sends as it should, but for what a test does in between.
    struct Both {
        memory: RefCell<Vec<u8>>,
        checker: Checker,
        written: u64,
    }

    impl Both {
        fn new() -> Both {
            let mut both = Both { memory: RefCell::new(vec![0; BUFFER]), checker: Checker::new(SEED), written: 0 };
            assert_eq!(both.control(BEGIN, 4).unwrap(), Verdict::Begun);
            both
        }

        fn put(&mut self, offset: u64, bytes: &[u8]) {
            self.memory.write(offset, bytes).unwrap();
            self.written += bytes.len() as u64;
        }

        fn control(&mut self, tag: u32, batch: u64) -> Result<Verdict, Mismatch> {
            self.put(CONTROL, &batch.to_le_bytes());
            self.announce(tag, CONTROL, 8)
        }

        fn announce(&mut self, tag: u32, offset: u64, length: u64) -> Result<Verdict, Mismatch> {
            let written = self.written;
            self.checker.judge(&self.memory, (tag, offset, length), || Ok(written))
        }

        fn write(&mut self, message: &Message) {
            let mut bytes = vec![0; message.length];
            message.fill(SEED, &mut bytes);
            self.put(message.offset, &bytes);
        }

        fn send(&mut self, message: &Message) -> Result<Verdict, Mismatch> {
            self.write(message);
            self.announce(message.tag(), message.offset, message.length as u64)
        }

        /// Sends what is left of a batch.
        fn rest(&mut self, number: u64, from: usize) -> Result<Verdict, Mismatch> {
            let mut last = Verdict::GoOn;
            for message in &batch(SEED, number)[from..] {
                assert_eq!(last, Verdict::GoOn);
                last = self.send(message)?;
            }
            Ok(last)
        }
    }

    #[test]
    fn what_is_right_is_accepted() {
        let mut both = Both::new();
        for number in 4..8 {
            assert_eq!(both.rest(number, 0).unwrap(), Verdict::Verified(number));
        }
        assert_eq!(both.control(END, 8).unwrap(), Verdict::Finished);
        let sum: usize = (4..8).flat_map(|n| batch(SEED, n)).map(|m| m.length).sum();
        assert_eq!(both.checker.bytes, sum as u64);
    }

    #[test]
    fn one_damaged_byte_is_found() {
        let mut both = Both::new();
        let message = &batch(SEED, 4)[0];
        both.write(message);
        both.memory.borrow_mut()[message.offset as usize + message.length - 1] ^= 4;
        let error = both.announce(message.tag(), message.offset, message.length as u64).unwrap_err();
        assert!(matches!(error, Mismatch::Bytes { wrong: 1, at, .. } if at == message.length - 1), "{error}");
    }

    #[test]
    fn lost_repeated_and_swapped_notifications_are_found() {
        let messages = batch(SEED, 4);
        let mut both = Both::new();
        assert!(matches!(both.send(&messages[1]), Err(Mismatch::Notification { .. })));
        let mut both = Both::new();
        both.send(&messages[0]).unwrap();
        assert!(matches!(both.send(&messages[0]), Err(Mismatch::Notification { .. })));
        let mut both = Both::new();
        both.send(&messages[0]).unwrap();
        assert!(matches!(both.control(END, 5), Err(Mismatch::Missing { .. })));
        assert!(matches!(both.control(BEGIN, 4), Err(Mismatch::Again { .. })));
    }

    #[test]
    fn data_that_is_not_there_is_found() {
        let message = &batch(SEED, 4)[0];
        let mut both = Both::new();
        let error = both.announce(message.tag(), message.offset, message.length as u64).unwrap_err();
        assert!(matches!(error, Mismatch::Bytes { found: 0, .. }), "{error}");
    }

    #[test]
    fn bytes_beside_a_message_are_found() {
        let messages = batch(SEED, 4);
        let mut both = Both::new();
        both.send(&messages[0]).unwrap();
        // Where a message was that has been checked: written a second time, and late.
        both.write(&messages[0]);
        let error = both.rest(4, 1).unwrap_err();
        assert!(matches!(error, Mismatch::Stray { batch: 4, .. }), "{error}");
    }

    #[test]
    fn bytes_written_twice_in_time_are_counted() {
        let messages = batch(SEED, 4);
        let mut both = Both::new();
        both.write(&messages[0]);
        assert_eq!(both.rest(4, 0).unwrap(), Verdict::Verified(4));
        assert!(matches!(both.control(END, 5), Err(Mismatch::Written { .. })));
    }

    #[test]
    fn nothing_comes_before_the_beginning() {
        let mut checker = Checker::new(SEED);
        let memory = RefCell::new(vec![0; BUFFER]);
        assert!(matches!(checker.judge(&memory, (7, 0, 5), || Ok(0)), Err(Mismatch::Early { .. })));
    }
}
