//! The floor of the bulk lane: its sockets and its steering, with no protocol on top. Packets are gathered from the sender's arena and land in
//! the receiver's, and user space copies nothing.
//!
//! ```text
//!   sender:    message 0, its segments from the highest address down, message 1 ...     as many as there are places for
//!   receiver:  places for the messages to come, as many bytes ahead as a node would post, and a word now and then of how many there have been
//! ```
//!
//! Both walk through as much memory as every other peer ([`WORKING_SET`]), and messages are cut as a node cuts them. The receiver's word is a packet by
//! the floor's own socket on queue 0. Without it a receiver that is kept from its work for a moment would cost what a packet costs that is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmmc::memory::{Arena, DirectSource, DirectTarget};
use vmmc::port::bulk::{BulkConfig, BulkLane, BulkPort, Run, ZeroCopy};
use vmmc::wire::frame::{Encap, Path};
use vmmc::wire::{BULK_HEADER_LEN, BulkHeader};

use super::frame::{HEADERS, PORT, headers};
use super::port::{Payload, Port, steer};
use crate::peers::{BULKY, End, Meter, Patience, Peer, PeerError};
use crate::spec::{Bench, Endpoint, Outcome, Side, Spec, WORKING_SET};
use crate::worker::Session;

/// The peer.
pub(crate) struct Gather;

/// The queue of the lane: the last of two.
const QUEUE: u32 = 1;
/// The longest segment of a node, bytes.
const LONGEST: usize = 15 * 4096;
/// The fewest bytes of a message that a node sends beside its segments.
const BESIDE: usize = 128;
/// After this share of the places that may be posted has been posted anew, the sender is told.
const TELL_AFTER: usize = 8;
/// And at least so often, should the word have been lost, or have come before anybody listened.
const TELL_AGAIN: Duration = Duration::from_millis(1);
/// How many bytes a node posts places for beyond what has landed: two grants' worth.
const AHEAD: usize = 2 << 20;
/// One wakeup moves at most this many descriptors, so larger batches gain nothing.
const BATCH: usize = 32;
/// Bytes of payload that one descriptor stands for.
const PIECE: usize = 4096;
/// The link that packets claim to be of, and the grant.
const TOKEN: u64 = 0x666c_6f6f_7200_0000;
const GRANT: u32 = 1;

impl Peer for Gather {
    fn name(&self) -> &'static str {
        "floor-gather"
    }

    fn measures(&self, bench: Bench) -> bool {
        bench == Bench::Bw
    }

    fn least_size(&self) -> usize {
        BULKY
    }

    fn refuses(&self, spec: &Spec) -> Option<String> {
        spec.one_queue
            .then(|| "the bulk lane needs a queue of its own, and interfaces are to have one in all".to_owned())
    }

    fn open(&self, side: Side, specs: &[Spec], session: &Session) -> Result<Box<dyn End>, PeerError> {
        let Session { local, remote, .. } = session;
        let address = |end: &Endpoint, port| SocketAddr::new(end.address.into(), port);
        let path = Path {
            local: address(local, PORT),
            remote: address(remote, PORT + 1),
            local_mac: local.mac,
            next_hop: remote.mac,
            vlan: None,
        };
        let room = WORKING_SET.max(specs.iter().map(|spec| spec.size).max().unwrap_or(0));
        let arena = Arena::new(Arena::footprint(room) + (1 << 20))?;
        let mut memory = arena.buffer(room)?;
        memory.fill(7);
        let interface = local.interface.clone();
        let steering = steer(local)?;
        let config =
            BulkConfig { interface, queue: QUEUE, headers: HEADERS + BULK_HEADER_LEN, zero_copy: ZeroCopy::Never };
        let lane = BulkLane::open(&config, &arena, steering.clone())?;
        let port = Port::open(local, steering)?;
        let end = GatherEnd { lane, port, room, encap: path.encap()?, peer: address(remote, PORT), streams: 0 };
        Ok(match side {
            Side::Server => {
                session.ready("")?;
                Box::new(Receiver { end, target: DirectTarget::of_buffer(memory) })
            }
            Side::Client => Box::new(Sender { end, source: DirectSource::of_buffer(Arc::new(memory)) }),
        })
    }
}

/// What both ends have.
struct GatherEnd {
    lane: BulkLane,
    /// For the receiver's word.
    port: Port,
    /// Length of the memory, bytes.
    room: usize,
    encap: Encap,
    /// The other end.
    peer: SocketAddr,
    /// How many streams there have been: both ends count them.
    streams: u32,
}

/// The receiver's word: of which stream, and how many places it has posted for that.
fn word(stream: u32, places: u32) -> [u8; 8] {
    (u64::from(stream) << 32 | u64::from(places)).to_be_bytes()
}

/// How many places a word of this stream says there are.
fn places_in(payload: &[u8], stream: u32) -> Option<u32> {
    let word = u64::from_be_bytes(payload.try_into().ok()?);
    (word >> 32 == u64::from(stream)).then_some(word as u32)
}

/// How messages of one size are cut.
struct Cut {
    segment: usize,
    segments: usize,
}

impl Cut {
    /// As nodes do it, but that what is left over isn't sent at all.
    fn new(spec: &Spec, encap: &Encap) -> Cut {
        let longest = (encap.payload_room(spec.mtu as usize) - BULK_HEADER_LEN).min(LONGEST);
        let cut = spec.size - BESIDE;
        let segments = cut.div_ceil(longest);
        Cut { segment: cut / segments / 16 * 16, segments }
    }

    /// Where the segments of all messages begin, in the order in which they are sent, without end.
    fn places(&self, spec: &Spec, room: usize) -> impl Iterator<Item = usize> + use<> {
        let &Cut { segment, segments } = self;
        let messages = (0..=room - spec.size).step_by(spec.size);
        let of_message = move |start| (0..segments).rev().map(move |number| start + BESIDE + number * segment);
        messages.cycle().flat_map(of_message)
    }
}

/// The end that sends.
struct Sender {
    end: GatherEnd,
    source: DirectSource,
}

impl End for Sender {
    fn latency(&mut self, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        Err(format!("this peer has no {}", spec.bench).into())
    }

    fn stream(&mut self, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        let GatherEnd { lane, port, room, encap, streams, .. } = &mut self.end;
        *streams += 1;
        let cut = Cut::new(spec, encap);
        let all = lane.tx_room(cut.segment);
        let header = BulkHeader { token: TOKEN, grant: GRANT, segment: 0 }.emit(None::<fn(&mut dyn FnMut(&[u8]))>);
        let (start, mut queued, mut sent, mut allowed) = (Instant::now(), 0, 0, 0);
        for at in cut.places(spec, *room) {
            let mut patience =
                Patience::new("places at the receiver, or the kernel to take packets from the transmit ring");
            while sent == allowed || !lane.submit(encap, &header, &self.source, at, cut.segment) {
                lane.flush()?;
                queued = 0;
                port.receive(|payload| allowed = places_in(payload, *streams).unwrap_or(allowed))?;
                patience.spin()?;
            }
            sent += 1;
            queued += 1 + cut.segment.div_ceil(PIECE);
            if queued >= BATCH {
                lane.flush()?;
                queued = 0;
                if start.elapsed() >= spec.duration() {
                    break;
                }
            }
        }
        let mut patience = Patience::new("the kernel to send what was queued");
        while lane.tx_room(cut.segment) < all {
            lane.flush()?;
            patience.spin()?;
        }
        Ok(Outcome::Nothing)
    }
}

/// The end that receives.
struct Receiver {
    end: GatherEnd,
    target: DirectTarget,
}

impl End for Receiver {
    fn prepare(&mut self, _: &Spec, _: &Session) -> Result<(), PeerError> {
        // What was posted for the stream before is for packets of its size, in its order.
        if self.end.streams > 0 {
            self.end.lane.reopen()?;
        }
        Ok(())
    }

    fn latency(&mut self, spec: &Spec, _: &Session) -> Result<Outcome, PeerError> {
        Err(format!("this peer has no {}", spec.bench).into())
    }

    fn stream(&mut self, spec: &Spec, session: &Session) -> Result<Outcome, PeerError> {
        let GatherEnd { lane, port, room, encap, peer, streams } = &mut self.end;
        *streams += 1;
        let cut = Cut::new(spec, encap);
        let run = Run { token: TOKEN, peer: *peer, grant: GRANT, segment: cut.segment as u32 };
        // Half of the room is certainly there again when the other half is used up.
        let most = (AHEAD / cut.segment).min(lane.room(cut.segment) / 2);
        let mut places = cut.places(spec, *room);
        let headers = headers(&session.local, &session.remote, word(0, 0).len());
        let (mut meter, mut batch) = (Meter::new(spec), Vec::new());
        let (mut posted, mut landed, mut told, mut told_at) = (0u32, 0u32, 0u32, Instant::now());
        loop {
            // Before looking for packets, so that those that came before the order to stop are still seen.
            let stopped = session.stopped();
            lane.receive(&mut batch)?;
            if !batch.is_empty() {
                meter.add(batch.len() * cut.segment);
                landed += batch.len() as u32;
                batch.clear();
            } else if stopped {
                break;
            }
            for at in places.by_ref().take(most - (posted - landed) as usize) {
                lane.post(&run, &self.target, at).ok_or("a place couldn't be posted, though there was room")?;
                posted += 1;
            }
            lane.admit();
            if (posted - told) as usize > most / TELL_AFTER || told_at.elapsed() > TELL_AGAIN {
                port.send(&headers, Payload::Copied(&word(*streams, posted)))?;
                port.flush()?;
                (told, told_at) = (posted, Instant::now());
            }
        }
        if !lane.is_consistent() {
            return Err("the kernel has lost packets that were let into the bulk lane".into());
        }
        meter.outcome()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_into_equal_segments_that_fit() {
        let path = Path {
            local: "10.0.0.1:7000".parse().unwrap(),
            remote: "10.0.0.2:7001".parse().unwrap(),
            local_mac: [2; 6],
            next_hop: [4; 6],
            vlan: None,
        };
        let encap = path.encap().unwrap();
        for (mtu, size, segments) in
            [(1500, 1 << 20, 725), (9000, 1 << 20, 118), (65535, 1 << 20, 18), (65535, BULKY, 1)]
        {
            let spec = Spec { mtu, size, ..Spec::default() };
            let cut = Cut::new(&spec, &encap);
            assert!(cut.segments.abs_diff(segments) < 2, "{mtu}: {}", cut.segments);
            assert!(cut.segment + BULK_HEADER_LEN + 28 <= mtu as usize && cut.segment.is_multiple_of(16));
            let first: Vec<_> = cut.places(&spec, 2 * size).take(cut.segments + 1).collect();
            assert!(first[0] + cut.segment <= size && first[0] + cut.segment + 16 * cut.segments >= size - 16);
            assert!(first[cut.segments - 1] == BESIDE && first[cut.segments] == size + first[0]);
        }
    }
}
