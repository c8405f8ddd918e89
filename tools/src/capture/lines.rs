//! Captures as text: a line for each packet.

use std::io::{self, Write};
use std::time::Duration;

use vmmc::port::tap::{Direction, Frame};
use vmmc::wire::frame::Datagram;

use super::packet::{BulkPacket, Packet};

/// Writes a capture.
pub(crate) struct Lines<W: Write> {
    out: W,
}

impl<W: Write> Lines<W> {
    pub(crate) fn new(out: W) -> Lines<W> {
        Lines { out }
    }

    /// Writes a packet's line, after what is missing before it.
    pub(crate) fn frame(&mut self, frame: &Frame, missed: u32) -> io::Result<()> {
        self.missed(missed)?;
        // Enough for its addresses, whatever was captured.
        let datagram = Datagram::parse(&frame.bytes, frame.length).ok();
        let (arrow, peer) = match frame.direction {
            Direction::Sent => ("->", datagram.map(|d| d.destination)),
            Direction::Received => ("<-", datagram.map(|d| d.source)),
        };
        let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
        write!(self.out, "{} {arrow} {peer}  ", clock(frame.time))?;
        match Packet::parse(&frame.bytes, frame.length) {
            Ok(packet) => writeln!(self.out, "{packet}"),
            Err(error) => match BulkPacket::parse(&frame.bytes, frame.length) {
                Ok(packet) => writeln!(self.out, "{packet}"),
                Err(_) => writeln!(self.out, "no packet ({} bytes): {error}", frame.length),
            },
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Ends; so many packets are missing since the last.
    pub(crate) fn finish(mut self, missed: u32) -> io::Result<()> {
        self.missed(missed)?;
        self.flush()
    }

    fn missed(&mut self, missed: u32) -> io::Result<()> {
        if missed > 0 { writeln!(self.out, "({missed} missed here)") } else { Ok(()) }
    }
}

/// The time of day, UTC.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, time.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_packet_and_what_is_missing_is_told() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        let time = Duration::new(86_400 + 3661, 5_000);
        let frame = Frame { time, direction: Direction::Received, rebuilt: false, length: 99, bytes: vec![0; 60] };
        lines.frame(&frame, 3).unwrap();
        lines.finish(1).unwrap();
        let text = String::from_utf8(out).unwrap();
        let wanted =
            "(3 missed here)\n01:01:01.000005 <- ?  no packet (99 bytes): unknown ethertype 0\n(1 missed here)\n";
        assert_eq!(text, wanted);
    }
}
