//! Captures as pcapng files: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>.
//!
//! One section, one interface with nanoseconds, frames with their direction and what is missing before them, and at the end, if it
//! comes to that in order, statistics.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};
use vmmc::port::tap::{Direction, Frame};

/// What is said of the whole capture.
pub(crate) struct About {
    /// The node, for a person.
    pub(crate) comment: String,
    /// The network interface.
    pub(crate) interface: String,
    /// The most bytes of a frame that were asked for.
    pub(crate) snaplen: u32,
}

/// What is said of a packet whose headers are lost when it lands.
const REBUILT: &str =
    "landed on the bulk lane, which takes headers off: these are built again from the steering program's log";

/// Writes a capture.
pub(crate) struct Writer<W: Write> {
    file: PcapNgWriter<W>,
    captured: u64,
    missed: u64,
}

/// Nothing but the output itself can be wrong here.
fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(crate) fn new(out: W, about: About) -> io::Result<Writer<W>> {
        let options = vec![
            SectionHeaderOption::Comment(about.comment.into()),
            SectionHeaderOption::OS("Linux".into()),
            SectionHeaderOption::UserApplication(concat!("vmmc capture ", env!("CARGO_PKG_VERSION")).into()),
        ];
        let section = SectionHeaderBlock { endianness: Endianness::native(), options, ..SectionHeaderBlock::default() };
        let mut file = PcapNgWriter::with_section_header(out, section).map_err(io_error)?;
        let options = vec![
            InterfaceDescriptionOption::IfName(about.interface.into()),
            InterfaceDescriptionOption::IfDescription("what a VMMC node hands to AF_XDP and gets from it".into()),
            InterfaceDescriptionOption::IfTsResol(9),
        ];
        let (linktype, snaplen) = (DataLink::ETHERNET, about.snaplen);
        file.write_pcapng_block(InterfaceDescriptionBlock { linktype, snaplen, options }).map_err(io_error)?;
        Ok(Writer { file, captured: 0, missed: 0 })
    }

    /// Adds a frame, before which `missed` are missing.
    pub(crate) fn frame(&mut self, frame: &Frame, missed: u32) -> io::Result<()> {
        let direction = match frame.direction {
            Direction::Received => 1,
            Direction::Sent => 2,
        };
        let mut options = vec![EnhancedPacketOption::Flags(direction)];
        if frame.rebuilt {
            options.push(EnhancedPacketOption::Comment(REBUILT.into()));
        }
        if missed > 0 {
            options.push(EnhancedPacketOption::DropCount(missed.into()));
        }
        self.captured += 1;
        self.missed += u64::from(missed);
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: frame.time,
            original_len: frame.length as u32,
            data: Cow::Borrowed(&frame.bytes),
            options,
        };
        self.file.write_pcapng_block(block).map(drop).map_err(io_error)
    }

    /// Ends the file; `missed` frames are missing since the last.
    pub(crate) fn finish(mut self, missed: u32) -> io::Result<W> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let missed = self.missed + u64::from(missed);
        let options = vec![
            InterfaceStatisticsOption::IsbIfRecv(self.captured + missed),
            InterfaceStatisticsOption::IsbOsDrop(missed),
            InterfaceStatisticsOption::IsbUsrDeliv(self.captured),
        ];
        // The block's time is two halves, the upper one first, which the crate doesn't know.
        let timestamp = (now.as_nanos() as u64).rotate_left(if cfg!(target_endian = "little") { 32 } else { 0 });
        let block = InterfaceStatisticsBlock { interface_id: 0, timestamp, options };
        self.file.write_pcapng_block(block).map_err(io_error)?;
        self.file.get_mut().flush()?;
        Ok(self.file.into_inner())
    }

    /// Hands on what is held back.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.get_mut().flush()
    }
}
