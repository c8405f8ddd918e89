//! One round: all peers that can be measured by some specs are opened, take turns, and are closed.
//!
//! ```text
//!   open: floor, vmmc, tcp ...          at the same time
//!   lat, 8 bytes:   floor  vmmc  tcp ...
//!   lat, 4 KiB:     floor  vmmc  tcp ...          a turn; then all again
//!   ...
//!   close
//! ```

use crate::error::BenchError;
use crate::harness::Harness;
use crate::peers::Peer;
use crate::rounds::Results;
use crate::run::{Measured, Next, Run};
use crate::spec::Spec;

/// How often a stream is sent again at most of which too little arrived.
const AGAIN: usize = 4;

/// A peer, and where it is measured.
pub(crate) struct Seat {
    pub(crate) peer: &'static dyn Peer,
    pub(crate) harness: Harness,
}

/// One round.
pub(crate) struct Round<'a> {
    /// It counts from 0.
    pub(crate) number: usize,
    /// How many turns it has for peers that share the time.
    pub(crate) turns: usize,
    /// Is told what is done next, and never during a measurement: both cores are busy then.
    pub(crate) show: &'a mut dyn FnMut(&str),
    pub(crate) results: &'a mut Results,
}

impl Round<'_> {
    /// Has all peers measured by these specs, in this round's order.
    pub(crate) fn sit(&mut self, seats: &mut [Seat], sitting: &[Spec]) -> Result<(), BenchError> {
        let able = seats.iter_mut().filter(|seat| is_able(seat.peer, sitting)).collect();
        let able = order(able, self.number);
        if sitting[0].bench.shares_connection() {
            return self.take_turns(able, sitting, self.turns);
        }
        for seat in able {
            if sitting[0].bench.wants_new_processes() {
                seat.harness.renew()?;
            }
            self.take_turns(vec![seat], sitting, 1)?;
        }
        Ok(())
    }

    fn take_turns(&mut self, seats: Vec<&mut Seat>, sitting: &[Spec], turns: usize) -> Result<(), BenchError> {
        let peers = match &seats[..] {
            [seat] => seat.peer.name().to_owned(),
            all => format!("{} peers", all.len()),
        };
        let mut tables = seats.into_iter().map(|seat| Table::begin(seat, sitting)).collect::<Result<Vec<_>, _>>()?;
        tables.iter_mut().try_for_each(|table| table.run.connect(&mut table.seat.harness))?;
        tables.iter_mut().try_for_each(|table| table.run.connected(&mut table.seat.harness))?;
        for spec in (0..turns).flat_map(|_| sitting) {
            (self.show)(&format!("{peers}, {}, {} bytes", spec.bench, spec.size));
            tables.iter_mut().try_for_each(|table| table.measure(spec))?;
        }
        tables.iter_mut().try_for_each(|table| table.run.end(&mut table.seat.harness))?;
        for Table { seat, run, specs, found } in tables {
            run.ended(&mut seat.harness)?;
            for (spec, found) in specs.iter().zip(found) {
                self.results.take(seat.peer, spec, &found, self.number * turns);
            }
        }
        Ok(())
    }
}

/// A peer that is open, and what each of its turns has found by each of its specs.
struct Table<'a> {
    seat: &'a mut Seat,
    run: Run,
    specs: Vec<Spec>,
    found: Vec<Vec<Measured>>,
}

impl Table<'_> {
    fn begin<'a>(seat: &'a mut Seat, sitting: &[Spec]) -> Result<Table<'a>, BenchError> {
        let specs: Vec<Spec> = sitting.iter().filter(|spec| takes(seat.peer, spec)).cloned().collect();
        let run = Run::begin(&mut seat.harness, seat.peer.name(), &specs)?;
        Ok(Table { seat, run, found: specs.iter().map(|_| Vec::new()).collect(), specs })
    }

    fn measure(&mut self, spec: &Spec) -> Result<(), BenchError> {
        let Some(place) = self.specs.iter().position(|own| own == spec) else { return Ok(()) };
        let mut measure = || self.run.measure(&mut self.seat.harness, place, |_| Next::GoOn);
        let mut measured = measure()?;
        for _ in 0..AGAIN {
            if !measured.tells() {
                measured = measure()?;
            }
        }
        self.found[place].push(measured);
        Ok(())
    }
}

/// Those that can be measured, in this round's order: another one is first each time.
fn order<T>(mut able: Vec<T>, round: usize) -> Vec<T> {
    if !able.is_empty() {
        let first = round % able.len();
        able.rotate_left(first);
    }
    able
}

/// Whether a peer is measured by a spec.
pub(crate) fn takes(peer: &dyn Peer, spec: &Spec) -> bool {
    peer.measures(spec.bench) && spec.size >= peer.least_size() && peer.refuses(spec).is_none()
}

/// Whether it is by any of them.
pub(crate) fn is_able(peer: &dyn Peer, sitting: &[Spec]) -> bool {
    sitting.iter().any(|spec| takes(peer, spec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::PEERS;
    use crate::spec::Bench;

    fn able(sitting: &[Spec]) -> Vec<&'static dyn Peer> {
        PEERS.iter().copied().filter(|&peer| is_able(peer, sitting)).collect()
    }

    fn spec(bench: Bench, mtu: u32, size: usize) -> Spec {
        Spec { bench, mtu, size, samples: 1, millis: 1, ..Spec::default() }
    }

    #[test]
    fn each_round_begins_with_another_peer() {
        let sitting = [spec(Bench::Bw, 1500, 1 << 20)];
        let firsts: Vec<_> = (0..PEERS.len()).map(|round| order(able(&sitting), round)[0].name()).collect();
        let mut distinct = firsts.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), PEERS.len(), "{firsts:?}");
    }

    #[test]
    fn a_peer_is_measured_only_by_what_it_knows() {
        let copies = [spec(Bench::BwCopy, 1500, 64)];
        let expected = PEERS.iter().filter(|p| p.measures(Bench::BwCopy)).count();
        assert_eq!(order(able(&copies), 1).len(), expected);
        // In a sitting with others it is measured by those.
        let both = [spec(Bench::BwCopy, 1500, 64), spec(Bench::Bw, 1500, 1 << 20)];
        assert_eq!(order(able(&both), 1).len(), PEERS.len());
    }
}
