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
    /// Has all peers measured by these specs.
    pub(crate) fn sit(&mut self, seats: &mut [Seat], sitting: &[Spec]) -> Result<(), BenchError> {
        let mut able: Vec<_> =
            seats.iter_mut().filter(|seat| sitting.iter().any(|spec| takes(seat.peer, spec))).collect();
        if sitting[0].bench.shares_connection() {
            return self.take_turns(&mut able, sitting, self.turns);
        }
        for seat in able {
            if sitting[0].bench.wants_new_processes() {
                seat.harness.renew()?;
            }
            self.take_turns(&mut [seat], sitting, 1)?;
        }
        Ok(())
    }

    fn take_turns(&mut self, seats: &mut [&mut Seat], sitting: &[Spec], turns: usize) -> Result<(), BenchError> {
        let peers = match &*seats {
            [seat] => seat.peer.name().to_owned(),
            all => format!("{} peers", all.len()),
        };
        let mut tables = Vec::new();
        for Seat { peer, harness } in seats.iter_mut() {
            let specs: Vec<Spec> = sitting.iter().filter(|spec| takes(*peer, spec)).cloned().collect();
            let run = Run::begin(harness, peer.name(), &specs)?;
            tables.push(Table { run, found: specs.iter().map(|_| Vec::new()).collect(), specs });
        }
        let mut all: Vec<(&mut Harness, Table)> = seats.iter_mut().map(|seat| &mut seat.harness).zip(tables).collect();
        all.iter_mut().try_for_each(|(harness, table)| table.run.connect(harness))?;
        all.iter_mut().try_for_each(|(harness, table)| table.run.connected(harness))?;
        for spec in (0..turns).flat_map(|_| sitting) {
            (self.show)(&format!("{peers}, {}, {} bytes", spec.bench, spec.size));
            all.iter_mut().try_for_each(|(harness, table)| table.measure(harness, spec))?;
        }
        all.iter_mut().try_for_each(|(harness, table)| table.run.end(harness))?;
        let mut tables = Vec::new();
        for (harness, Table { run, specs, found }) in all {
            run.ended(harness)?;
            tables.push((specs, found));
        }
        for (seat, (specs, found)) in seats.iter().zip(tables) {
            for (spec, found) in specs.iter().zip(found) {
                self.results.take(seat.peer, spec, &found, self.number * turns);
            }
        }
        Ok(())
    }
}

/// A peer that is open, and what each of its turns has found by each of its specs.
struct Table {
    run: Run,
    specs: Vec<Spec>,
    found: Vec<Vec<Measured>>,
}

impl Table {
    fn measure(&mut self, harness: &mut Harness, spec: &Spec) -> Result<(), BenchError> {
        let Some(place) = self.specs.iter().position(|own| own == spec) else { return Ok(()) };
        let mut measured = self.run.measure(harness, place, |_| Next::GoOn)?;
        for _ in 0..AGAIN {
            if !measured.tells() {
                measured = self.run.measure(harness, place, |_| Next::GoOn)?;
            }
        }
        self.found[place].push(measured);
        Ok(())
    }
}

/// Whether a peer is measured by a spec.
pub(crate) fn takes(peer: &dyn Peer, spec: &Spec) -> bool {
    peer.measures(spec.bench) && spec.size >= peer.least_size() && peer.refuses(spec).is_none()
}
