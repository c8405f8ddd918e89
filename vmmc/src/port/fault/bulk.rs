//! Faults in what is sent by the bulk lane.
//!
//! A packet of it is headers that are this lane's, and payload where it lies, in the program's memory: that is neither written nor copied. So what is damaged is a bit of the
//! bulk header: the steering program drops the packet then, or it lands and its checksum is found to be wrong, as that of a packet with a damaged payload is. What is held back or repeated is sent from
//! where it lies, too: its source is kept meanwhile, like that of a packet that the kernel has.
//!
//! What has landed has landed: in what is *received* by the lane there are no faults, but those that the other end makes.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::fate::{Fate, Fates};
use super::{COPIES, FaultCounters, FaultPort, Faults};
use crate::memory::DirectSource;
use crate::port::bulk::{BulkLayer, BulkPort};
use crate::wire::BULK_HEADER_LEN;
use crate::wire::frame::Encap;

/// A header, as it was or damaged.
type Header = SmallVec<[u8; BULK_HEADER_LEN]>;

/// A packet that is held back.
struct Held {
    due: Instant,
    encap: Encap,
    header: Header,
    source: DirectSource,
    at: usize,
    len: usize,
}

pub(super) struct BulkSending {
    fates: Fates,
    delay: Duration,
    /// All are held equally long, so the first is due first.
    held: VecDeque<Held>,
    pub counters: FaultCounters,
}

impl BulkSending {
    pub fn new(faults: &Faults) -> BulkSending {
        // Others than those of the eager lane's packets, and the same each time.
        let fates = Fates::new(faults.on_sending(), faults.seed ^ 0x6275_6c6b);
        BulkSending { fates, delay: faults.delay, held: VecDeque::new(), counters: FaultCounters::default() }
    }

    /// When something is to be released.
    pub fn due(&self) -> Option<Instant> {
        self.held.front().map(|held| held.due)
    }

    /// Lets a packet meet its fate. Returns false when it can't be queued now.
    pub fn submit(
        &mut self,
        lane: &mut dyn BulkPort,
        encap: &Encap,
        header: &[u8],
        (source, at, len): (&DirectSource, usize, usize),
    ) -> bool {
        let fate = self.fates.next;
        // What can't be sent isn't dropped either: there would be no end to it.
        if lane.tx_room(len) == 0 || !self.send(lane, encap, header, (source, at, len), fate) {
            return false;
        }
        self.fates.advance();
        true
    }

    fn send(
        &mut self,
        lane: &mut dyn BulkPort,
        encap: &Encap,
        header: &[u8],
        (source, at, len): (&DirectSource, usize, usize),
        fate: Fate,
    ) -> bool {
        if fate.dropped {
            self.counters.dropped += 1;
            return true;
        }
        let mut bytes = Header::from_slice(header);
        let corrupted = fate.damage_any(&mut bytes);
        let copies = 1 + usize::from(fate.twice);
        if fate.held && self.held.len() + copies <= COPIES {
            let due = Instant::now() + self.delay;
            let held = || Held { due, encap: encap.clone(), header: bytes.clone(), source: source.clone(), at, len };
            self.held.extend(std::iter::repeat_with(held).take(copies));
            self.counters.delayed += 1;
        } else {
            if !lane.submit(encap, &bytes, source, at, len) {
                return false;
            }
            let repeated = fate.twice && lane.submit(encap, &bytes, source, at, len);
            self.counters.spared += u64::from(fate.held || repeated != fate.twice);
            if !repeated {
                self.counters.corrupted += u64::from(corrupted);
                return true;
            }
        }
        self.counters.corrupted += u64::from(corrupted);
        self.counters.duplicated += u64::from(fate.twice);
        true
    }

    /// Queues what is due. Returns whether there was any.
    pub fn release(&mut self, lane: &mut dyn BulkPort) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let (now, before) = (Instant::now(), self.held.len());
        // Without room it stays the first, and is tried again.
        while let Some(Held { due, encap, header, source, at, len }) = self.held.front()
            && *due <= now
            && lane.submit(encap, header, source, *at, *len)
        {
            self.held.pop_front();
        }
        self.held.len() < before
    }

    /// Lets go of all that is held back.
    pub fn forget(&mut self) {
        self.held.clear();
    }
}

impl BulkLayer for FaultPort {
    fn lane(&self) -> Option<&dyn BulkPort> {
        self.inner.bulk_ref()
    }

    fn lane_mut(&mut self) -> Option<&mut dyn BulkPort> {
        self.inner.bulk()
    }

    fn submit(&mut self, encap: &Encap, header: &[u8], source: &DirectSource, at: usize, len: usize) -> bool {
        let Some(lane) = self.inner.bulk() else { return false };
        let sent = self.bulk.submit(lane, encap, header, (source, at, len));
        self.set_timer();
        sent
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(lane) = self.inner.bulk() else { return Ok(()) };
        self.bulk.release(lane);
        lane.flush()
    }

    fn forget(&mut self) {
        self.bulk.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{Arena, DirectTarget};
    use crate::port::bulk::sim::{SimBulk, SimBulkConfig};
    use crate::port::bulk::{Landing, Run};
    use crate::port::sim::{Conditions, Network};
    use crate::port::{Lanes, Port};
    use crate::time::Time;
    use crate::wire::BulkHeader;
    use crate::wire::frame::Path;

    const SEGMENT: usize = 100;
    const COUNT: u32 = 1000;

    /// What has landed of this many segments that were sent with faults, and what was counted.
    fn landed(faults: &str) -> (Vec<Landing>, FaultCounters, Option<DirectSource>) {
        let address = |host| std::net::SocketAddr::from(([10, 0, 0, host], 7000));
        let mac = |host| [2, 0, 0, 0, 0, host];
        let network = Network::new(1, Conditions::default());
        let arenas = [Arena::new(1 << 20).unwrap(), Arena::new(1 << 20).unwrap()];
        let eager = network.attach(mac(1));
        let bulk = SimBulk::new(&eager, &arenas[0], SimBulkConfig::new(address(1)));
        let lanes = Lanes { eager: Box::new(eager), bulk: Box::new(bulk) };
        let mut sender = FaultPort::new(Box::new(lanes), faults.parse().unwrap()).unwrap();
        let other = network.attach(mac(2));
        let config = SimBulkConfig { ring: 4096, ..SimBulkConfig::new(address(2)) };
        let mut receiver = SimBulk::new(&other, &arenas[1], config);
        let run = Run { token: 5, peer: address(1), grant: 6, segment: SEGMENT as u32 };
        let target = DirectTarget::of_buffer(arenas[1].buffer(2 * COUNT as usize * SEGMENT).unwrap());
        for place in 0..2 * COUNT as usize {
            receiver.post(&run, &target, place * SEGMENT).unwrap();
        }
        receiver.admit();
        let source = DirectSource::of_buffer(Arc::new(arenas[0].buffer(SEGMENT).unwrap()));
        let path = Path { local: address(1), remote: address(2), local_mac: mac(1), next_hop: mac(2), vlan: None };
        let encap = path.of_bulk().encap().unwrap();
        for segment in 0..COUNT {
            let header = BulkHeader { token: 5, grant: 6, segment };
            let header = header.emit(Some(|take: &mut dyn FnMut(&[u8])| source.for_each(0, SEGMENT, take)));
            let lane = Port::bulk(&mut sender).unwrap();
            assert!(lane.submit(&encap, &header, &source, 0, SEGMENT));
            lane.flush().unwrap();
        }
        let held = |sender: &FaultPort| sender.bulk.due().is_some();
        if faults.contains("10s") {
            // Nobody gets it back before.
            assert!(held(&sender) && !source.is_free());
            Port::bulk(&mut sender).unwrap().reopen().unwrap();
            assert!(!held(&sender) && source.is_free());
        }
        while held(&sender) {
            Port::flush(&mut sender).unwrap();
        }
        let mut batch = Vec::new();
        network.advance(Time::from_nanos(1_000_000_000));
        receiver.receive(&mut batch).unwrap();
        let counted = Port::counters(&sender).tx_faults;
        let free = source.is_free();
        drop(sender);
        (batch, counted, free.then_some(source))
    }

    fn segments(landed: &[Landing]) -> Vec<u32> {
        landed.iter().map(|landing| landing.segment).collect()
    }

    #[test]
    fn packets_are_dropped_repeated_and_held_back() {
        let (batch, counted, _) = landed("drop=10%,dup=5%");
        assert_eq!(batch.len() as u64, u64::from(COUNT) - counted.dropped + counted.duplicated);
        assert!((50..200).contains(&counted.dropped) && (20..100).contains(&counted.duplicated), "{counted:?}");
        let (batch, counted, source) = landed("reorder=10%,delay=1ms");
        let mut order = segments(&batch);
        assert!(!order.is_sorted() && counted.delayed > 50, "{counted:?}");
        order.sort_unstable();
        assert!(order.into_iter().eq(0..COUNT), "none is lost");
        assert!(source.is_some(), "all of it is let go of");
        let (batch, counted, _) = landed("drop=10%,dup=5%,on=receive");
        assert_eq!((batch.len() as u32, counted), (COUNT, FaultCounters::default()));
        landed("reorder=10%,delay=10s");
    }

    #[test]
    fn a_damaged_header_is_refused_or_its_packet_s_checksum_is_wrong() {
        let (batch, counted, _) = landed("corrupt=50%");
        let payload = [0; SEGMENT];
        let is_right = |landing: &&Landing| {
            let header = BulkHeader { token: 5, grant: landing.grant, segment: landing.segment };
            landing.checksum == Some(header.checksum(crate::wire::BULK_CHECKED, |take| take(&payload)))
        };
        let (right, wrong): (Vec<&Landing>, Vec<&Landing>) = batch.iter().partition(is_right);
        assert!(counted.corrupted > 300 && wrong.len() > 50, "{counted:?}, {} wrong", wrong.len());
        // A bit that nobody looks at does no harm.
        assert!(right.len() as u64 + counted.corrupted >= u64::from(COUNT), "{} right, {counted:?}", right.len());
        assert!((batch.len() as u32) < COUNT, "some were refused");
    }
}
