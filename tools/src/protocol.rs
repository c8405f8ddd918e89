//! What `vmmc serve` and its clients say to each other, in remote writes.
//!
//! `serve` exports a *control buffer* for every service: `vmmc.ping`, and `NAME.put` beside every export NAME. A client
//! exports a *reply buffer* of its own, `vmmc.reply-NONCE`, under a random key, and tells `serve` both by writing an
//! [`Open`] into one of the control buffer's doors, chosen at random. Two clients may choose the same door at
//! the same time: the nonce stands at both ends of the message and in the notification's tag, so that `serve` ignores a
//! mixture, and a client that gets no answer tries another door. `serve` imports the reply buffer and writes an
//! [`Answer`] into it.
//!
//! ```text
//!   control buffer                                reply buffer
//!   ┌──────────────────────────┐ 0               ┌──────────────────────────┐ 0
//!   │ scratch                  │                 │ scratch                  │
//!   ├──────────────────────────┤ 64              ├──────────────────────────┤ 64
//!   │ 64 doors of 64 bytes     │ Open            │ answer                   │ Answer
//!   ├──────────────────────────┤ 4160            ├──────────────────────────┤ 576
//!   │ body                     │                 │ body (ping only)         │
//!   └──────────────────────────┘                 └──────────────────────────┘
//! ```
//!
//! The scratch bytes are written without notification and never read: whether such a write succeeds tells whether the
//! other side is still there.
//!
//! *ping*: the body of `vmmc.ping` is [`PING_SLOTS`] slots of [`MAX_PING`] bytes, of which [`Answer::Ready`] names one. What
//! the client writes at its start, `serve` writes into the body of the reply buffer, with the same tag.
//!
//! *put*: after [`Answer::Ready`] the file's bytes go into the export itself. Empty notifications at the start of the body say
//! how many MiB have been sent, so that they can be hashed meanwhile; a [`Trailer`] there is the end. The verdict
//! is an [`Answer`].
//!
//! *get*: nobody says anything. A file that `serve` offers stands in an export that can be fetched from, and a [`Trailer`] in another
//! beside it, NAME.get.
//!
//! Numbers are big-endian. Whatever doesn't parse is ignored: bytes from a peer never do more than fill these fields.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::Sha256Sum;

/// The control buffer of pings.
pub(crate) const PING_EXPORT: &str = "vmmc.ping";
/// The longest ping, bytes.
pub(crate) const MAX_PING: u64 = 64 << 10;
/// How many clients may ping at once.
pub(crate) const PING_SLOTS: usize = 16;

/// Where the scratch bytes are, in every buffer.
pub(crate) const SCRATCH_AT: u64 = 0;
/// How many doors a control buffer has.
const DOORS: u64 = 64;
const DOORS_AT: u64 = 64;
const DOOR_LEN: u64 = 64;
/// Where the body of a control buffer begins.
pub(crate) const BODY_AT: u64 = DOORS_AT + DOORS * DOOR_LEN;
/// Where the answer is, in a reply buffer.
pub(crate) const ANSWER_AT: u64 = 64;
/// Where the body of a reply buffer begins.
pub(crate) const REPLY_BODY_AT: u64 = 576;

/// What one step of a put's notifications stands for, bytes.
pub(crate) const PROGRESS_UNIT: u64 = 1 << 20;

const MAGIC: [u8; 4] = *b"VMMC";
const VERSION: u8 = 1;
const MAX_TEXT: usize = 255;

/// Lengths of the messages, bytes.
pub(crate) const OPEN_LEN: usize = size_of::<OpenBytes>();
pub(crate) const ANSWER_LEN: usize = size_of::<AnswerBytes>();
pub(crate) const TRAILER_LEN: usize = size_of::<TrailerBytes>();

const _: () = assert!(OPEN_LEN as u64 <= DOOR_LEN);
const _: () = assert!(ANSWER_AT + ANSWER_LEN as u64 <= REPLY_BODY_AT);

/// The control buffer of puts into `export`.
pub(crate) fn put_export(export: &str) -> String {
    format!("{export}.put")
}

/// The buffer that says what is in the file that is offered as `export`.
pub(crate) fn get_export(export: &str) -> String {
    format!("{export}.get")
}

/// The reply buffer of the client with this nonce.
pub(crate) fn reply_export(nonce: u32) -> String {
    format!("vmmc.reply-{nonce:08x}")
}

/// Where door number `random` is, which may be any number.
pub(crate) fn door(random: u32) -> u64 {
    DOORS_AT + u64::from(random) % DOORS * DOOR_LEN
}

/// Whether a write to `offset` was one to a door.
pub(crate) fn is_door(offset: u64) -> bool {
    (DOORS_AT..BODY_AT).contains(&offset) && (offset - DOORS_AT).is_multiple_of(DOOR_LEN)
}

/// Where slot number `slot` of `vmmc.ping` is.
pub(crate) fn ping_slot(slot: usize) -> u64 {
    BODY_AT + slot as u64 * MAX_PING
}

/// Which slot of `vmmc.ping` begins at `offset`.
pub(crate) fn ping_slot_at(offset: u64) -> Option<usize> {
    (0..PING_SLOTS).find(|&slot| ping_slot(slot) == offset)
}

/// A client's wish to be served, and the way back to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    /// Which client this is, and what its reply buffer is called.
    pub(crate) nonce: u32,
    /// The key of that buffer.
    pub(crate) key: [u8; 16],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OpenBytes {
    nonce: U32,
    magic: [u8; 4],
    version: u8,
    zero: [u8; 3],
    key: [u8; 16],
    nonce_again: U32,
}

impl Open {
    pub(crate) fn emit(&self) -> [u8; OPEN_LEN] {
        let nonce = self.nonce.into();
        let bytes =
            OpenBytes { nonce, magic: MAGIC, version: VERSION, zero: [0; 3], key: self.key, nonce_again: nonce };
        zerocopy::transmute!(bytes)
    }

    pub(crate) fn parse(bytes: &[u8; OPEN_LEN]) -> Option<Open> {
        let OpenBytes { nonce, magic, version, zero, key, nonce_again } = zerocopy::transmute!(*bytes);
        let sound = magic == MAGIC && version == VERSION && zero == [0; 3] && nonce == nonce_again;
        sound.then_some(Open { nonce: nonce.get(), key })
    }
}

/// The end of a put, or beside a file that is offered: what should be in the export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Length of the file, bytes.
    pub(crate) length: u64,
    pub(crate) sha256: Sha256Sum,
    /// The file's name, at most 255 bytes: anything the client likes.
    pub(crate) name: Vec<u8>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TrailerBytes {
    length: U64,
    sha256: [u8; 32],
    name_length: U16,
    zero: [u8; 6],
    name: [u8; 256],
}

impl Trailer {
    pub(crate) fn emit(&self) -> [u8; TRAILER_LEN] {
        let (name, name_length) = pad(&self.name);
        let (length, sha256) = (self.length.into(), self.sha256.0);
        zerocopy::transmute!(TrailerBytes { length, sha256, name_length: name_length.into(), zero: [0; 6], name })
    }

    pub(crate) fn parse(bytes: &[u8; TRAILER_LEN]) -> Option<Trailer> {
        let TrailerBytes { length, sha256, name_length, zero, name } = zerocopy::transmute!(*bytes);
        let name = unpad(&name, name_length.get()).filter(|_| zero == [0; 6])?.to_vec();
        Some(Trailer { length: length.get(), sha256: Sha256Sum(sha256), name })
    }
}

/// What `serve` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Begin. What you send next goes to this place of the control buffer.
    Ready { at: u64 },
    /// Not now, and why.
    Refused { why: String },
    /// The put arrived whole, and is kept in this file, if any.
    Verified { sha256: Sha256Sum, file: String },
    /// The put arrived, with another checksum than it should have.
    Damaged { sha256: Sha256Sum },
    /// The put arrived whole, and then something went wrong.
    Failed { why: String },
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AnswerBytes {
    status: u8,
    zero: [u8; 5],
    text_length: U16,
    at: U64,
    sha256: [u8; 32],
    text: [u8; 256],
}

impl Answer {
    pub(crate) fn emit(&self) -> [u8; ANSWER_LEN] {
        let none = Sha256Sum([0; 32]);
        let (status, at, sha256, text) = match self {
            Answer::Ready { at } => (1, *at, none, ""),
            Answer::Refused { why } => (2, 0, none, why.as_str()),
            Answer::Verified { sha256, file } => (3, 0, *sha256, file.as_str()),
            Answer::Damaged { sha256 } => (4, 0, *sha256, ""),
            Answer::Failed { why } => (5, 0, none, why.as_str()),
        };
        let (text, text_length) = pad(cut(text, MAX_TEXT).as_bytes());
        let (at, sha256, text_length) = (at.into(), sha256.0, text_length.into());
        zerocopy::transmute!(AnswerBytes { status, zero: [0; 5], text_length, at, sha256, text })
    }

    pub(crate) fn parse(bytes: &[u8; ANSWER_LEN]) -> Option<Answer> {
        let AnswerBytes { status, zero, text_length, at, sha256, text } = zerocopy::transmute!(*bytes);
        let text = printable(unpad(&text, text_length.get()).filter(|_| zero == [0; 5])?);
        let sha256 = Sha256Sum(sha256);
        Some(match status {
            1 => Answer::Ready { at: at.get() },
            2 => Answer::Refused { why: text },
            3 => Answer::Verified { sha256, file: text },
            4 => Answer::Damaged { sha256 },
            5 => Answer::Failed { why: text },
            _ => return None,
        })
    }
}

/// Text of a peer that may be shown on a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// As much of `text` as fits into `most` bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}

/// At most 255 bytes, with zeros behind them, and their number.
fn pad(bytes: &[u8]) -> ([u8; 256], u16) {
    let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
    let mut padded = [0; 256];
    padded[..bytes.len()].copy_from_slice(bytes);
    (padded, bytes.len() as u16)
}

fn unpad(padded: &[u8; 256], length: u16) -> Option<&[u8]> {
    let (bytes, rest) = padded.split_at_checked(length.into())?;
    rest.iter().all(|&b| b == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_dont_overlap() {
        for random in [0, 63, 64, u32::MAX] {
            assert!(is_door(door(random)), "{random}");
        }
        for offset in [SCRATCH_AT, 63, 65, BODY_AT, u64::MAX] {
            assert!(!is_door(offset), "{offset}");
        }
        assert_eq!(ping_slot_at(ping_slot(PING_SLOTS - 1)), Some(PING_SLOTS - 1));
        for offset in [0, BODY_AT + 1, ping_slot(PING_SLOTS), u64::MAX] {
            assert_eq!(ping_slot_at(offset), None, "{offset}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let why = "ü".repeat(200);
        let Some(Answer::Refused { why: cut }) = Answer::parse(&Answer::Refused { why }.emit()) else {
            panic!("it parses");
        };
        assert_eq!(cut, "ü".repeat(127));
    }

    #[test]
    fn text_of_a_peer_does_nothing_to_the_terminal() {
        let answer = Answer::Failed { why: "\x1b[2J\u{9b}\n".to_owned() };
        assert_eq!(
            Answer::parse(&answer.emit()),
            Some(Answer::Failed { why: "\u{fffd}[2J\u{fffd}\u{fffd}".to_owned() })
        );
    }

    fn answers() -> impl Strategy<Value = Answer> {
        let sum = any::<[u8; 32]>().prop_map(Sha256Sum).boxed();
        let text = "[a-zü ]{0,100}".boxed();
        prop_oneof![
            any::<u64>().prop_map(|at| Answer::Ready { at }),
            text.clone().prop_map(|why| Answer::Refused { why }),
            (sum.clone(), text.clone()).prop_map(|(sha256, file)| Answer::Verified { sha256, file }),
            sum.prop_map(|sha256| Answer::Damaged { sha256 }),
            text.prop_map(|why| Answer::Failed { why }),
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_the_way(
            nonce: u32,
            key: [u8; 16],
            length: u64,
            sum: [u8; 32],
            name in prop::collection::vec(any::<u8>(), 0..=255),
            answer in answers(),
        ) {
            let open = Open { nonce, key };
            prop_assert!(Open::parse(&open.emit()) == Some(open));
            let trailer = Trailer { length, sha256: Sha256Sum(sum), name };
            prop_assert_eq!(Trailer::parse(&trailer.emit()), Some(trailer));
            prop_assert_eq!(Answer::parse(&answer.emit()), Some(answer));
        }

        #[test]
        fn nonsense_is_no_message_or_the_one_it_spells(
            bytes in prop::collection::vec(any::<u8>(), TRAILER_LEN),
            few in prop::collection::vec((0..TRAILER_LEN, any::<u8>()), 0..4),
        ) {
            // Wholly random, and almost right.
            let mut near = Trailer { length: 5, sha256: Sha256Sum([1; 32]), name: b"name".to_vec() }.emit();
            let mut answer = Answer::Refused { why: "busy".to_owned() }.emit();
            let mut open = Open { nonce: 7, key: [3; 16] }.emit();
            for (at, value) in few {
                near[at] = value;
                answer[at % ANSWER_LEN] = value;
                open[at % OPEN_LEN] = value;
            }
            for trailer in [near, bytes[..TRAILER_LEN].try_into().unwrap()] {
                if let Some(message) = Trailer::parse(&trailer) {
                    prop_assert_eq!(message.emit(), trailer);
                }
            }
            let random: [u8; ANSWER_LEN] = bytes[..ANSWER_LEN].try_into().unwrap();
            let _ = (Answer::parse(&answer), Answer::parse(&random));
            for open in [open, bytes[..OPEN_LEN].try_into().unwrap()] {
                if let Some(message) = Open::parse(&open) {
                    prop_assert_eq!(message.emit(), open);
                }
            }
        }
    }
}
