//! Building packets: the header and what it tells the peer besides, the encapsulation, the checksum.

use super::Link;
use crate::port::{Port, TxPacket};
use crate::time::Time;
use crate::wire::frame::{Encap, Path};
use crate::wire::{CHECKSUM_LEN, Flags, HEADER_LEN, Header, Kind, Reader, checksum};

impl Link {
    /// An empty DATA packet, to which records are appended; `None` when the port has no frames left.
    pub fn begin(&self, port: &mut dyn Port) -> Option<TxPacket> {
        port.alloc(self.encap.len() + HEADER_LEN)
    }

    /// Sends a DATA packet that [`Link::begin`] began. With `ack_now` the peer acknowledges it at once. Returns its sequence
    /// number.
    pub fn seal(&mut self, now: Time, port: &mut dyn Port, packet: TxPacket, ack_now: bool) -> u64 {
        let sequence = self.sender.next();
        let ack_now = ack_now || self.sender.should_ask();
        self.emit_data(now, port, &packet, sequence, ack_now);
        self.counters.tx_data += 1;
        self.counters.tx_bytes += packet.len() as u64;
        self.asked_at.get_or_insert(now);
        self.sender.push(now, packet, ack_now);
        sequence
    }

    /// Completes the headers of a DATA packet and submits it. Returns false when the port can't take it now.
    fn emit_data(&mut self, now: Time, port: &mut dyn Port, packet: &TxPacket, sequence: u64, ack_now: bool) -> bool {
        let flags = Flags { ack_now, ..Flags::default() };
        let header = self.header(now, port, Kind::Data, flags, sequence);
        let sent = emit(&self.encap, header, packet, port);
        if sent {
            self.receiver.acked();
        }
        sent
    }

    pub(super) fn header(&mut self, now: Time, port: &dyn Port, kind: Kind, flags: Flags, sequence: u64) -> Header {
        let provisional = flags.provisional || self.untold;
        let credit = self.receiver.credit(port.rx_headroom());
        let (until, throttled) = (self.receiver.next() + u64::from(credit), self.receiver.is_throttled());
        self.promised_fetched = self.promised_fetched.max(until);
        if !throttled {
            self.promised = self.promised.max(until);
        }
        Header {
            kind,
            flags: Flags {
                checked: self.options.checksum,
                provisional,
                late: self.receiver.late(),
                throttled,
                ..flags
            },
            checksum: 0,
            token: self.remote_token,
            sequence: sequence as u32,
            ack: self.receiver.next() as u32,
            credit,
            ack_delay: u16::try_from(self.receiver.ack_delay(now).as_micros()).unwrap_or(u16::MAX),
            marks: self.receiver.marks(),
        }
    }

    /// Sends a packet without sequence number: header, body, and zeros up to `pad` bytes after the header. Returns false when the
    /// port can't take it now.
    pub(super) fn emit_control(&self, port: &mut dyn Port, header: Header, body: &[u8], pad: usize) -> bool {
        let Some(mut packet) = self.begin(port) else { return false };
        let mut rest = pad.saturating_sub(body.len());
        let mut whole = port.append(&mut packet, body) == body.len();
        while rest > 0 && whole {
            let n = rest.min(1024);
            whole = port.append(&mut packet, &[0; 1024][..n]) == n;
            rest -= n;
        }
        let sent = whole && emit(&self.encap, header, &packet, port);
        port.free(packet);
        sent
    }

    /// Sends an acknowledgement alone. Returns false when the port can't take it now.
    pub(super) fn emit_ack(&mut self, now: Time, port: &mut dyn Port, ack_now: bool) -> bool {
        let sack = self.receiver.sack();
        let flags = Flags { ack_now, sack: sack.is_some(), ..Flags::default() };
        let header = self.header(now, port, Kind::Ack, flags, self.sender.next());
        let sent = match sack {
            Some(sack) => self.emit_control(port, header, sack.emit().as_ref(), 0),
            None => self.emit_control(port, header, &[], 0),
        };
        if sent {
            self.counters.tx_acks += 1;
            self.receiver.acked();
        }
        sent
    }

    /// Sends a packet again, from the frames it has been kept in. Returns false when the port can't take it now.
    pub(super) fn resend(&mut self, now: Time, sequence: u64, port: &mut dyn Port) -> bool {
        let flags = Flags { ack_now: true, provisional: true, ..Flags::default() };
        let header = self.header(now, port, Kind::Data, flags, sequence);
        let Some(packet) = self.sender.packet(sequence) else {
            return false;
        };
        if !emit(&self.encap, header, packet, port) {
            return false;
        }
        self.counters.tx_retransmitted += 1;
        self.sender.sent_again(sequence, now);
        // What this has acknowledged is complete only with the next packet that isn't a repetition.
        self.receiver.ack_later(now);
        true
    }
}

/// Writes encapsulation, header and checksum into a packet and submits it. Returns false when the port can't take it.
fn emit(encap: &Encap, header: Header, packet: &TxPacket, port: &mut dyn Port) -> bool {
    let at = encap.len();
    let Some(head) = port.head(packet) else { return false };
    encap.write(head, packet.len() - at);
    head[at..at + HEADER_LEN].copy_from_slice(&header.emit());
    if header.flags.checked {
        let checksum = if head.len() == packet.len() {
            checksum([&head[at + CHECKSUM_LEN..]])
        } else {
            let Some(fragments) = port.contents(packet) else { return false };
            checksum(Reader::new(&fragments, at + CHECKSUM_LEN, packet.len()).slices())
        };
        let Some(head) = port.head(packet) else { return false };
        head[at..at + CHECKSUM_LEN].copy_from_slice(&checksum.to_be_bytes());
    }
    port.submit(packet)
}

/// Sends a RESET for a packet whose token is unknown, back where it came from.
pub(crate) fn send_reset(path: &Path, token: u64, port: &mut dyn Port) {
    let Ok(encap) = path.encap() else { return };
    let Some(packet) = port.alloc(encap.len() + HEADER_LEN) else { return };
    let flags = Flags { checked: true, ..Flags::default() };
    emit(&encap, Header { kind: Kind::Reset, flags, token, ..Header::default() }, &packet, port);
    port.free(packet);
}
