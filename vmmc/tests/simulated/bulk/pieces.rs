//! Piecewise sends: each transfer is a send of its own, PUTs don't wait for it, and whoever finds no room hears when there may be some.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use vmmc::engine::{DirectSend, Event, Send, Ticket, Wanted};
use vmmc::memory::{Buffer, DirectSource};
use vmmc::port::Port;

use super::chaos::{Put, export};
use super::{bad, world};
use crate::world::{World, contents};

/// So long that it takes several transfers, and more than may be asked for at once.
const LONG: usize = 12_000_000;

/// A writer that sends on whenever it hears that it may.
struct Writer {
    import: u32,
    queue: u64,
    buffer: Arc<Buffer>,
    data: Vec<u8>,
    done: usize,
    /// Of what was sent last.
    ticket: Option<Ticket>,
}

impl Writer {
    /// Of host 0, to host 1's export of that name.
    fn new(world: &mut World, name: &str, len: usize, seed: u64) -> Writer {
        let import = world.import(0, 1, name).unwrap();
        let host = &mut world.hosts[0];
        let queue = host.engine.open_events();
        host.engine.report_import(import, queue, 7).unwrap();
        let mut buffer = host.arena.buffer(len).unwrap();
        fastrand::Rng::with_seed(seed).fill(&mut buffer);
        Writer { import, queue, data: buffer.to_vec(), buffer: Arc::new(buffer), done: 0, ticket: None }
    }

    /// Sends as much as may be sent now.
    fn go_on(&mut self, world: &mut World) {
        let (now, host) = (world.now(), &mut world.hosts[0]);
        if self.done == self.data.len() || !host.engine.has_direct_room(self.import) {
            return;
        }
        let source = DirectSource::of_buffer(self.buffer.clone());
        let mut send = DirectSend::new(source, self.done..self.data.len(), self.done as u64, Some(9));
        send.piecewise = true;
        let ticket = host.engine.send_direct(now, &mut host.port, self.import, &mut send).unwrap();
        host.port.flush().unwrap();
        assert_eq!(ticket.is_some(), send.done() > 0);
        (self.done, self.ticket) = (self.done + send.done(), ticket.or(self.ticket));
    }

    /// Waits for an event, and nothing else, whenever there is something to wait for.
    fn finish(&mut self, world: &mut World) {
        loop {
            self.go_on(world);
            let all = self.done == self.data.len();
            if all && self.ticket.is_some_and(|ticket| world.hosts[0].engine.is_delivered(&ticket).unwrap()) {
                return;
            }
            world.until("an event", |world| {
                let mut events = Vec::new();
                world.hosts[0].engine.take_events(self.queue, &mut events);
                assert!(events.iter().all(|event| *event == Event::Import { token: 7 }), "{events:?}");
                (!events.is_empty()).then_some(())
            });
        }
    }
}

/// Takes notifications that follow on each other, up to `len` bytes: how many.
fn announced(world: &mut World, export: u32, len: usize) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < len as u64 {
        let news = world.notification(1, export);
        assert_eq!((news.offset, news.tag), (at, 9));
        (at, count) = (at + news.length, count + 1);
    }
    assert_eq!(at, len as u64);
    count
}

#[test]
fn puts_overtake_them() {
    let mut world = world(2, 1, Some(true));
    let (pieces, region) = export(&mut world, 1, "pieces", LONG);
    let (puts, _) = export(&mut world, 1, "puts", 100);
    let other = world.import(0, 1, "puts").unwrap();
    let mut writer = Writer::new(&mut world, "pieces", LONG, 1);
    writer.go_on(&mut world);
    assert!(writer.done > 0 && writer.done < LONG, "{} bytes were asked for", writer.done);
    world.send(0, other, b"meanwhile", 0, Some(3)).unwrap();
    assert_eq!(world.notification(1, puts).tag, 3);
    assert_eq!(world.hosts[1].engine.take_notification(pieces), None, "a transfer was faster than a packet");
    writer.finish(&mut world);
    assert!(announced(&mut world, pieces, LONG) >= LONG >> 20, "each transfer announces itself");
    assert!(contents(&region) == writer.data);
    let (sent, received) = (world.hosts[0].engine.counters(), world.hosts[1].engine.counters());
    assert!(received.rx_bulk_bytes == LONG as u64 && sent.tx_bulk_declined == 0, "{received:?}");
}

#[test]
fn one_that_is_declined_goes_as_puts() {
    let mut world = world(2, 1, Some(true));
    let (pieces, _) = export(&mut world, 1, "pieces", LONG);
    let mut writer = Writer::new(&mut world, "pieces", LONG, 2);
    // Packets can't land there.
    let target = Box::new(vec![0; LONG]);
    let redirect = world.hosts[1].engine.redirect(pieces, Wanted::Range(0..LONG as u64), target).unwrap();
    writer.finish(&mut world);
    announced(&mut world, pieces, LONG);
    let returned = world.hosts[1].take_redirect(pieces, redirect).unwrap();
    assert!(super::into_bytes(returned.target) == writer.data);
    assert!(world.hosts[0].engine.counters().tx_bulk_declined > 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// Beside sends that keep all order, and others that wait for their turn, on any network: everything arrives, and nobody waits in vain.
    #[test]
    fn beside_all_else(seed: u64, conditions in bad(), strip: bool, order in prop::collection::vec(0..3u8, 1..12)) {
        let mut world = world(2, seed, Some(strip));
        let (pieces, region) = export(&mut world, 1, "pieces", LONG / 8);
        let (_, whole) = export(&mut world, 1, "whole", 300_000);
        let (_, short) = export(&mut world, 1, "short", 12 * 5000);
        let [into_whole, into_short] = ["whole", "short"].map(|name| world.import(0, 1, name).unwrap());
        let mut writer = Writer::new(&mut world, "pieces", LONG / 8, seed);
        world.network.set_conditions(conditions);
        let mut expected = (vec![0; 300_000], vec![0; 12 * 5000]);
        for (number, what) in order.into_iter().enumerate() {
            writer.go_on(&mut world);
            match what {
                0 => {
                    let mut put = Put::new(&world, 0, into_whole, seed ^ number as u64, 300_000, 0, 1);
                    put.finish(&mut world).unwrap();
                    expected.0.clone_from(&put.data);
                    put.give_back();
                }
                1 => {
                    let bytes = vec![number as u8 + 1; 5000];
                    world.submit(0, into_short, Send::new(&bytes, 5000 * number as u64)).unwrap();
                    expected.1[5000 * number..][..5000].copy_from_slice(&bytes);
                }
                _ => world.run(Duration::from_micros(300)),
            }
        }
        writer.finish(&mut world);
        announced(&mut world, pieces, LONG / 8);
        let last = world.send(0, into_short, &[], 0, Some(1)).unwrap();
        world.delivered(0, last).unwrap();
        prop_assert!(contents(&region) == writer.data);
        prop_assert!((contents(&whole), contents(&short)) == expected);
    }
}
