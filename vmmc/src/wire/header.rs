//! The header every packet starts with.
//!
//! ```text
//!    0               1               2               3
//!   +---------------+---------------+---------------+---------------+
//!   | checksum: CRC32C of everything after this field               |
//!   +---------------+---------------+---------------+---------------+
//!   | version (6)   | kind          | flags         | reserved (0)  |
//!   +---------------+---------------+---------------+---------------+
//!   | token: what the receiver of this packet named the link        |
//!   |                                                               |
//!   +---------------------------------------------------------------+
//!   | sequence: this packet's (DATA), or the next one's             |
//!   +---------------------------------------------------------------+
//!   | ack: the next sequence the sender of this packet expects      |
//!   +-------------------------------+-------------------------------+
//!   | credit: packets past ack      | ack delay, microseconds       |
//!   +-------------------------------+-------------------------------+
//!   | marks: CE-marked packets seen | reserved (0)                  |
//!   +-------------------------------+-------------------------------+
//! ```

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{VERSION, WireError};

/// Length of the header, bytes.
pub const HEADER_LEN: usize = 32;

/// Length of the checksum, which stands first, bytes.
pub const CHECKSUM_LEN: usize = 4;

/// What a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Opens a link; padded to the MTU it proposes.
    Hello = 1,
    /// Answers a HELLO; padded to the MTU agreed on.
    Welcome = 2,
    /// Records, in sequence, delivered reliably.
    Data = 3,
    /// Acknowledgement alone.
    #[default]
    Ack = 4,
    /// The sender has closed the link, in order.
    Close = 5,
    /// The sender knows no link of this token: it has lost it, or never had it. The token is the one that came.
    Reset = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind, WireError> {
        Ok(match byte {
            1 => Kind::Hello,
            2 => Kind::Welcome,
            3 => Kind::Data,
            4 => Kind::Ack,
            5 => Kind::Close,
            6 => Kind::Reset,
            _ => {
                return Err(WireError::Unknown { field: "packet kind", value: byte.into() });
            }
        })
    }
}

/// The header's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Bit 0: the sender wants an acknowledgement now.
    pub ack_now: bool,
    /// Bit 1: a [`Sack`](super::Sack) follows, up to the end of the packet (ACK only).
    pub sack: bool,
    /// Bit 2: the checksum field holds one.
    pub checked: bool,
    /// Bit 3: the acknowledgement completes no sends yet: what there is to say about them may still have to be sent, or the
    /// packet is a repetition, whose `sequence` says nothing about what was sent since.
    pub provisional: bool,
    /// Bit 4: the packets that this acknowledges may have waited for long before their receiver looked for them. So their delay
    /// says nothing about the path.
    pub late: bool,
    /// Bit 5: the credit is for FETCHEDs alone, which their receiver has asked for. PUTs have what they were given before.
    pub throttled: bool,
}

impl Flags {
    fn from_byte(byte: u8) -> Result<Flags, WireError> {
        if byte & !0b11_1111 != 0 {
            return Err(WireError::Reserved("flags"));
        }
        let bit = |n: u8| byte >> n & 1 != 0;
        Ok(Flags {
            ack_now: bit(0),
            sack: bit(1),
            checked: bit(2),
            provisional: bit(3),
            late: bit(4),
            throttled: bit(5),
        })
    }

    fn to_byte(self) -> u8 {
        u8::from(self.ack_now)
            | u8::from(self.sack) << 1
            | u8::from(self.checked) << 2
            | u8::from(self.provisional) << 3
            | u8::from(self.late) << 4
            | u8::from(self.throttled) << 5
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    checksum: U32,
    version: u8,
    kind: u8,
    flags: u8,
    reserved: u8,
    token: U64,
    sequence: U32,
    ack: U32,
    credit: U16,
    ack_delay: U16,
    marks: U16,
    reserved2: U16,
}

/// A parsed header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What the packet is.
    pub kind: Kind,
    /// Flags.
    pub flags: Flags,
    /// CRC32C of the rest of the packet when `flags.checked`; else zero.
    pub checksum: u32,
    /// The link, by the name its receiver gave it in the handshake; in a RESET, the token that wasn't known.
    pub token: u64,
    /// Sequence number of this packet (DATA); of the next DATA packet (all other kinds).
    pub sequence: u32,
    /// The next sequence number the sender of this packet expects.
    pub ack: u32,
    /// How many packets from `ack` on the sender of this packet has room for.
    pub credit: u16,
    /// How long the newest packet waited for this acknowledgement, microseconds (65535: that long or longer).
    pub ack_delay: u16,
    /// How many packets with the ECN mark "congestion experienced" have arrived on this link, modulo 2^16.
    pub marks: u16,
}

impl Header {
    /// Parses the header at the start of `bytes`, which may hold more.
    ///
    /// # Errors
    /// When `bytes` is too short, of another version, of an unknown kind, or has a reserved bit set.
    pub fn parse(bytes: &[u8]) -> Result<Header, WireError> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| WireError::Truncated("header"))?;
        if raw.version != VERSION {
            return Err(WireError::Unknown { field: "protocol version", value: raw.version.into() });
        }
        if raw.reserved != 0 || raw.reserved2.get() != 0 {
            return Err(WireError::Reserved("header"));
        }
        let flags = Flags::from_byte(raw.flags)?;
        let checksum = raw.checksum.get();
        if !flags.checked && checksum != 0 {
            return Err(WireError::Inconsistent("checksum flag"));
        }
        Ok(Header {
            kind: Kind::from_byte(raw.kind)?,
            flags,
            checksum,
            token: raw.token.get(),
            sequence: raw.sequence.get(),
            ack: raw.ack.get(),
            credit: raw.credit.get(),
            ack_delay: raw.ack_delay.get(),
            marks: raw.marks.get(),
        })
    }

    /// The header's bytes.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        zerocopy::transmute!(Raw {
            checksum: self.checksum.into(),
            version: VERSION,
            kind: self.kind as u8,
            flags: self.flags.to_byte(),
            reserved: 0,
            token: self.token.into(),
            sequence: self.sequence.into(),
            ack: self.ack.into(),
            credit: self.credit.into(),
            ack_delay: self.ack_delay.into(),
            marks: self.marks.into(),
            reserved2: 0.into(),
        })
    }

    /// Checks the checksum against what follows it, given as the fragments of the packet from byte [`CHECKSUM_LEN`] on.
    ///
    /// # Errors
    /// When it doesn't match. A packet without one passes: whether one is demanded is for the link to say.
    pub fn verify<'a>(&self, covered: impl IntoIterator<Item = &'a [u8]>) -> Result<(), WireError> {
        if self.flags.checked && checksum(covered) != self.checksum {
            return Err(WireError::Checksum("packet's"));
        }
        Ok(())
    }
}

/// CRC32C (RFC 3385's choice, as in iSCSI and SCTP) of a packet, given as its fragments from byte [`CHECKSUM_LEN`] on.
pub fn checksum<'a>(covered: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut covered = covered.into_iter();
    let first = covered.next().unwrap_or_default();
    let Some(second) = covered.next() else {
        return crc_fast::crc32_iscsi(first);
    };
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    [first, second].into_iter().chain(covered).for_each(|bytes| digest.update(bytes));
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        Header {
            kind: Kind::Data,
            flags: Flags { ack_now: true, checked: true, ..Flags::default() },
            checksum: 0x0102_0304,
            token: 0x1122_3344_5566_7788,
            sequence: 9,
            ack: 8,
            credit: 7,
            ack_delay: 6,
            marks: 5,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!(
            sample().emit(),
            [
                1, 2, 3, 4, 7, 3, 0b101, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 9, 0, 0, 0, 8, 0,
                7, 0, 6, 0, 5, 0, 0
            ]
        );
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720, appendix B.4: 32 bytes of zeros have 0x8a9136aa. A header can't be all zeros, so the body has the test.
        assert_eq!(crc_fast::crc32_iscsi(&[0; 32]), 0x8a91_36aa);
        let mut whole = sample().emit().to_vec();
        whole.extend(b"some body");
        let (head, body) = whole[CHECKSUM_LEN..].split_at(30);
        assert_eq!(checksum([head, body]), crc_fast::crc32_iscsi(&whole[CHECKSUM_LEN..]));
    }

    #[test]
    fn every_reserved_bit_is_refused() {
        let good = sample().emit();
        for (byte, mask) in [(6, 0b1100_0000u8), (7, 0xff), (30, 0xff), (31, 0xff)] {
            for bit in (0..8).filter(|b| mask >> b & 1 == 1) {
                let mut bad = good;
                bad[byte] |= 1 << bit;
                assert!(matches!(Header::parse(&bad), Err(WireError::Reserved(_))), "byte {byte} bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_emit(bytes in prop::array::uniform32(any::<u8>())) {
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(header.emit(), bytes);
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(body in prop::collection::vec(any::<u8>(), 1..200), at in any::<usize>(), bit in 0..8) {
            let header = Header { checksum: checksum([&body[..]]), ..sample() };
            prop_assert_eq!(header.verify([&body[..]]), Ok(()));
            let mut damaged = body.clone();
            damaged[at % body.len()] ^= 1u8 << bit;
            prop_assert!(header.verify([&damaged[..]]).is_err());
        }
    }
}
