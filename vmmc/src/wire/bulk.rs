//! The header of a packet on the bulk lane, and nothing else before its payload.
//!
//! ```text
//!    0               1               2               3
//!   +---------------+---------------+---------------+---------------+
//!   | checksum: CRC32C of everything after this field               |
//!   +---------------+---------------+---------------+---------------+
//!   | version (6)   | kind (7)      | flags         | reserved (0)  |
//!   +---------------+---------------+---------------+---------------+
//!   | token: what the receiver of this packet named the link        |
//!   |                                                               |
//!   +---------------------------------------------------------------+
//!   | grant: the receiver's number of the places it has posted      |
//!   +---------------------------------------------------------------+
//!   | segment: 0 is the one at the lowest address                   |
//!   +---------------------------------------------------------------+
//! ```
//!
//! Of the flags only bit 2 is used: the checksum field holds one; else it is zero. These packets go to the UDP port after the node's own. They have no place in
//! the link's sequence: what becomes of them is told by records.

use zerocopy::byteorder::network_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{VERSION, WireError};

/// Length of the header, bytes.
pub const BULK_HEADER_LEN: usize = 24;

/// The packet's kind, among those of [`Kind`](super::Kind).
pub const BULK_KIND: u8 = 7;

/// The flag that says that the checksum field holds one.
pub const BULK_CHECKED: u8 = 1 << 2;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    checksum: U32,
    version: u8,
    kind: u8,
    flags: u8,
    reserved: u8,
    token: U64,
    grant: U32,
    segment: U32,
}

/// A header. No node parses one: the steering program takes it off, and keeps account of what it said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkHeader {
    /// The link, by the name its receiver gave it in the handshake.
    pub token: u64,
    /// The receiver's number of the grant.
    pub grant: u32,
    /// Which segment of it.
    pub segment: u32,
}

impl BulkHeader {
    /// The header's bytes. Of the payload, if it is to be checked, `payload` hands all pieces to the function it is given, in order.
    pub fn emit(&self, payload: Option<impl FnOnce(&mut dyn FnMut(&[u8]))>) -> [u8; BULK_HEADER_LEN] {
        let flags = if payload.is_some() { BULK_CHECKED } else { 0 };
        let checksum = payload.map_or(0, |payload| self.checksum(flags, payload));
        zerocopy::transmute!(self.raw(checksum, flags))
    }

    /// The header's bytes, with a checksum that is known, or with none.
    pub fn emit_with(&self, checksum: Option<u32>) -> [u8; BULK_HEADER_LEN] {
        let flags = if checksum.is_some() { BULK_CHECKED } else { 0 };
        zerocopy::transmute!(self.raw(checksum.unwrap_or(0), flags))
    }

    /// Parses a header. Returns the checksum that it holds, too, if it does.
    ///
    /// # Errors
    /// When it is of another version or kind. All else the steering program takes as it is.
    pub fn parse(bytes: &[u8; BULK_HEADER_LEN]) -> Result<(BulkHeader, Option<u32>), WireError> {
        let raw: Raw = zerocopy::transmute!(*bytes);
        if raw.version != VERSION {
            return Err(WireError::Unknown { field: "protocol version", value: raw.version.into() });
        }
        if raw.kind != BULK_KIND {
            return Err(WireError::Unknown { field: "packet kind", value: raw.kind.into() });
        }
        let header = BulkHeader { token: raw.token.get(), grant: raw.grant.get(), segment: raw.segment.get() };
        Ok((header, (raw.flags & BULK_CHECKED != 0).then_some(raw.checksum.get())))
    }

    /// The CRC32C of all that follows the checksum field of a packet.
    pub fn checksum(&self, flags: u8, payload: impl FnOnce(&mut dyn FnMut(&[u8]))) -> u32 {
        let bytes: [u8; BULK_HEADER_LEN] = zerocopy::transmute!(self.raw(0, flags));
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&bytes[super::CHECKSUM_LEN..]);
        payload(&mut |piece| digest.update(piece));
        digest.finalize() as u32
    }

    fn raw(&self, checksum: u32, flags: u8) -> Raw {
        Raw {
            checksum: checksum.into(),
            version: VERSION,
            kind: BULK_KIND,
            flags,
            reserved: 0,
            token: self.token.into(),
            grant: self.grant.into(),
            segment: self.segment.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let header = BulkHeader { token: 0x1122_3344_5566_7788, grant: 9, segment: 8 };
        let bytes = header.emit(None::<fn(&mut dyn FnMut(&[u8]))>);
        let expected =
            [0, 0, 0, 0, VERSION, 7, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 9, 0, 0, 0, 8];
        assert_eq!(bytes, expected);
        let payload = |take: &mut dyn FnMut(&[u8])| {
            take(b"some ");
            take(b"bytes");
        };
        let checked = header.emit(Some(payload));
        let mut whole = expected[4..].to_vec();
        whole[2] = BULK_CHECKED;
        whole.extend(b"some bytes");
        assert_eq!(checked[..4], crc_fast::crc32_iscsi(&whole).to_be_bytes());
        for bytes in [bytes, checked] {
            let (parsed, checksum) = BulkHeader::parse(&bytes).unwrap();
            assert_eq!((parsed, parsed.emit_with(checksum)), (header, bytes));
        }
        for (at, byte) in [(4, VERSION + 1), (5, 1)] {
            let mut other = bytes;
            other[at] = byte;
            BulkHeader::parse(&other).unwrap_err();
        }
    }
}
