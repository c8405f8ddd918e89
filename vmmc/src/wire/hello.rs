//! The body of HELLO and WELCOME: who opens the link, and what both agree on.
//!
//! ```text
//!    0               1               2               3
//!   +---------------------------------------------------------------+
//!   | incarnation: drawn at random when the sender's node opened    |
//!   |                                                               |
//!   +---------------------------------------------------------------+
//!   | token: what packets to the sender of this shall carry         |
//!   |                                                               |
//!   +---------------------------------------------------------------+
//!   | peer's incarnation: in a WELCOME, the one it answers; else 0  |
//!   |                                                               |
//!   +---------------------------------------------------------------+
//!   | first: the sequence number of the sender's first DATA packet  |
//!   +-------------------------------+---------------+---------------+
//!   | MTU: bytes of this IP packet  | options       | reserved (0)  |
//!   +-------------------------------+---------------+---------------+
//!   | reserved (0)                                                  |
//!   |                                                               |
//!   +---------------------------------------------------------------+
//! ```
//!
//! Zeros follow until the IP packet has the length the MTU field says. So a HELLO or WELCOME that arrives is the
//! proof that the path carries packets of that size.

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{MIN_MTU, WireError};

/// Length of the body before its padding, bytes.
pub const HELLO_LEN: usize = 40;

/// What a node can do, or what two have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bit 0: DATA, ACK and CLOSE packets carry a CRC32C.
    pub checksum: bool,
    /// Bit 1: the node has a bulk lane.
    pub bulk: bool,
    /// Bit 2: a NIC writes packets of the bulk lane into the node's memory by itself, so each of them has to fill NIC buffers exactly.
    pub whole_buffers: bool,
}

impl Options {
    fn from_byte(byte: u8) -> Result<Options, WireError> {
        if byte & !0b111 != 0 {
            return Err(WireError::Reserved("hello"));
        }
        Ok(Options { checksum: byte & 1 != 0, bulk: byte & 2 != 0, whole_buffers: byte & 4 != 0 })
    }

    fn to_byte(self) -> u8 {
        u8::from(self.checksum) | u8::from(self.bulk) << 1 | u8::from(self.whole_buffers) << 2
    }

    /// What both sides want.
    pub fn agree(self, other: Options) -> Options {
        // Integrity wins: a side that wants checksums gets them, and so does one that needs buffers filled.
        Options {
            checksum: self.checksum || other.checksum,
            bulk: self.bulk && other.bulk,
            whole_buffers: self.whole_buffers || other.whole_buffers,
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    incarnation: U64,
    token: U64,
    peer_incarnation: U64,
    first: U32,
    mtu: U16,
    options: u8,
    reserved: u8,
    reserved2: U64,
}

/// The parsed body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The sender's incarnation.
    pub incarnation: u64,
    /// The token that packets to the sender shall carry; never 0.
    pub token: u64,
    /// In a WELCOME, the incarnation it answers; in a HELLO, 0.
    pub peer_incarnation: u64,
    /// Sequence number of the sender's first DATA packet.
    pub first: u32,
    /// Length of the IP packet this body came in, bytes.
    pub mtu: u16,
    /// In a HELLO, what the sender can do; in a WELCOME, what is agreed on.
    pub options: Options,
}

impl Hello {
    /// Parses the body's first 40 bytes. The padding after them isn't looked at: only its length matters.
    ///
    /// # Errors
    /// When a reserved bit is set, the token is zero, or the MTU is below [`MIN_MTU`].
    pub fn parse(bytes: &[u8; HELLO_LEN]) -> Result<Hello, WireError> {
        let raw = Raw::ref_from_bytes(bytes).map_err(|_| WireError::Truncated("hello"))?;
        if raw.reserved != 0 || raw.reserved2.get() != 0 {
            return Err(WireError::Reserved("hello"));
        }
        if raw.token.get() == 0 {
            return Err(WireError::Inconsistent("token"));
        }
        if usize::from(raw.mtu.get()) < MIN_MTU {
            return Err(WireError::Inconsistent("MTU"));
        }
        Ok(Hello {
            incarnation: raw.incarnation.get(),
            token: raw.token.get(),
            peer_incarnation: raw.peer_incarnation.get(),
            first: raw.first.get(),
            mtu: raw.mtu.get(),
            options: Options::from_byte(raw.options)?,
        })
    }

    /// The body's bytes, without padding.
    pub fn emit(&self) -> [u8; HELLO_LEN] {
        zerocopy::transmute!(Raw {
            incarnation: self.incarnation.into(),
            token: self.token.into(),
            peer_incarnation: self.peer_incarnation.into(),
            first: self.first.into(),
            mtu: self.mtu.into(),
            options: self.options.to_byte(),
            reserved: 0,
            reserved2: 0.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserved_bits_and_nonsense_are_refused() {
        let good = Hello { token: 1, mtu: 1500, ..Hello::default() };
        assert_eq!(Hello::parse(&good.emit()), Ok(good));
        for at in [30, 31, 32, 39] {
            let mut bad = good.emit();
            bad[at] |= 0x80;
            assert_eq!(Hello::parse(&bad), Err(WireError::Reserved("hello")), "byte {at}");
        }
        assert!(Hello::parse(&Hello { token: 0, ..good }.emit()).is_err());
        assert!(Hello::parse(&Hello { mtu: 1279, ..good }.emit()).is_err());
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_emit(bytes in prop::collection::vec(any::<u8>(), HELLO_LEN)) {
            let bytes: [u8; HELLO_LEN] = bytes.try_into().unwrap();
            if let Ok(hello) = Hello::parse(&bytes) {
                prop_assert_eq!(hello.emit(), bytes);
            }
        }
    }
}
