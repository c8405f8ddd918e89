//! The parsers, given any bytes in any pieces: they refuse or they agree with what writes, and pieces make no difference.
//!
//! [`check`] is also the body of the fuzz target `packet`, and an input of one is an input of the other.

use arbitrary::Arbitrary;
use vmmc::wire::frame::Datagram;
use vmmc::wire::record::Record;
use vmmc::wire::{CHECKSUM_LEN, HELLO_LEN, Header, Hello, Reader, Sack, WireError};

/// Bytes, and the lengths of the pieces they lie in; what is left over is the last piece.
#[derive(Arbitrary, Debug)]
pub struct Packet {
    pub pieces: Vec<u8>,
    pub bytes: Vec<u8>,
}

/// Parses the bytes as all that they may be.
pub fn check(packet: &Packet) {
    let whole = [&packet.bytes[..]];
    let mut pieces = Vec::new();
    let mut rest = &packet.bytes[..];
    for &length in &packet.pieces {
        let (piece, after) = rest.split_at(rest.len().min(length.into()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);

    // As a frame: what its headers say lies within it.
    let mut start = 0;
    if let Ok(datagram) = Datagram::parse(pieces[0], packet.bytes.len()) {
        assert!(datagram.start <= pieces[0].len(), "its headers lie in the first piece");
        assert!(datagram.start + datagram.length <= packet.bytes.len());
        assert_eq!(Datagram::parse(&packet.bytes, packet.bytes.len()), Ok(datagram));
        start = datagram.start;
    }
    // As a packet, with and without the frame around it.
    for start in [start, 0] {
        let read = |fragments: &[&[u8]]| {
            let reader = Reader::new(fragments, start, usize::MAX);
            (header(reader.clone()), hello(reader.clone()), sack(reader.clone()), records(reader))
        };
        assert_eq!(read(&pieces), read(&whole), "the pieces make a difference");
    }
}

/// The header, and whether the checksum is right.
fn header(mut reader: Reader<'_, '_>) -> Option<Result<(Header, bool), WireError>> {
    let mut covered = reader.clone();
    covered.skip(CHECKSUM_LEN);
    let bytes: [u8; 32] = reader.array()?;
    let header = Header::parse(&bytes);
    if let Ok(header) = &header {
        assert_eq!(header.emit(), bytes);
    }
    Some(header.map(|header| (header, header.verify(covered.slices()).is_ok())))
}

fn hello(mut reader: Reader<'_, '_>) -> Option<Result<Hello, WireError>> {
    let bytes: [u8; HELLO_LEN] = reader.array()?;
    let hello = Hello::parse(&bytes);
    if let Ok(hello) = &hello {
        assert_eq!(hello.emit(), bytes);
    }
    Some(hello)
}

fn sack(mut reader: Reader<'_, '_>) -> Option<Sack> {
    let (length, mut copy) = (reader.remaining(), reader.clone());
    let sack = Sack::parse(&mut reader).ok()?;
    let mut bytes = vec![0; length];
    copy.fill(&mut bytes);
    assert_eq!(sack.emit().as_ref(), bytes);
    Some(sack)
}

/// All records up to the first that is refused, and why it is.
fn records(mut reader: Reader<'_, '_>) -> (Vec<Record>, Option<WireError>) {
    let mut records = Vec::new();
    loop {
        let (before, left) = (reader.clone(), reader.remaining());
        let record = match Record::parse(&mut reader) {
            Ok(Some(record)) => record,
            Ok(None) => {
                assert_eq!(left, 0, "there is no record only at the end");
                return (records, None);
            }
            Err(error) => return (records, Some(error)),
        };
        let fixed = record.emit();
        assert_eq!(left - reader.remaining(), fixed.as_ref().len());
        assert!(reader.remaining() >= record.body_len());
        let read: Vec<u8> = before.slices().flatten().copied().take(fixed.as_ref().len()).collect();
        assert_eq!(read, fixed.as_ref(), "{record:?}");
        reader.skip(record.body_len());
        records.push(record);
    }
}

#[cfg(test)]
mod tests {
    use arbitrary::{Arbitrary, Unstructured};
    use proptest::prelude::*;

    use super::{Packet, check};

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), 0u8..8, any::<u8>()], 0..200),
            pieces in prop::collection::vec(0u8..40, 0..8),
        ) {
            check(&Packet { pieces, bytes });
        }

        /// The same bytes as the fuzzer would read them.
        #[test]
        fn any_input_of_the_fuzzer(input in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(packet) = Packet::arbitrary_take_rest(Unstructured::new(&input)) {
                check(&packet);
            }
        }
    }
}
