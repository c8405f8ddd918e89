//! How the link does over networks of every kind: loss x reordering x duplication x window, against the committed table.
//!
//! Clock and network are simulated, so the same code gives the same table, to the last digit. When a change makes
//! another one, look at it, and if it is for the better, commit it: `VMMC_UPDATE=1 cargo test -p vmmc --test simulated table`.

use std::fmt::Write;
use std::time::Duration;

use vmmc::link::Config;
use vmmc::port::sim::Conditions;

use crate::world::{World, contents, link_config};

const BYTES: usize = 2_000_000;
const PUT: usize = 50_000;
const RATE: u64 = 10_000_000_000;
const SEED: u64 = 1997;

/// Transfers [`BYTES`] by puts. Returns the time from the first put to the last one's delivery, and the number of retransmissions.
fn transfer(conditions: Conditions, window: u16) -> (Duration, u64) {
    // Opened over a perfect network: how a handshake fares is another matter.
    let perfect = Conditions { rate: Some(RATE), ..Conditions::default() };
    let mut world = World::with(2, SEED, perfect, Config { window, credit: 1024, ..link_config() });
    let (_, region) = world.export(1, "inbox", BYTES, 1);
    let import = world.import(0, 1, "inbox").unwrap();
    world.run(Duration::from_millis(50));
    world.network.set_conditions(conditions);

    let data: Vec<u8> = (0..BYTES).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect();
    let begin = world.now();
    let mut last = None;
    for (offset, piece) in (0..).step_by(PUT).zip(data.chunks(PUT)) {
        last = Some(world.send(0, import, piece, offset, None).unwrap());
    }
    world.delivered(0, last.unwrap()).unwrap();
    let time = world.now().since(begin);
    assert!(contents(&region) == data, "other bytes than were sent: {conditions:?}, window {window}");
    let retransmitted = world.hosts[0].engine.peers().map(|p| p.counters.tx_retransmitted).sum();
    (time, retransmitted)
}

#[test]
fn table() {
    let mut table = format!(
        "{BYTES} bytes by puts of {PUT}, MTU 1500, {} Gbit/s, 10 us one way, detours of 50 us, seed {SEED}\n\n",
        RATE / 1_000_000_000
    );
    table += "loss  reordering  duplication  window      time us  goodput Mbit/s  retransmitted\n";
    for loss in [0.0, 0.01, 0.05, 0.2] {
        for reordering in [0.0, 0.05] {
            for duplication in [0.0, 0.05] {
                for window in [16, 128, 1024] {
                    let conditions =
                        Conditions { loss, reordering, duplication, rate: Some(RATE), ..Conditions::default() };
                    let (time, retransmitted) = transfer(conditions, window);
                    let goodput = BYTES as f64 * 8.0 / time.as_secs_f64() / 1e6;
                    let [loss, reordering, duplication] =
                        [loss, reordering, duplication].map(|share| format!("{:.0}%", share * 100.0));
                    let micros = time.as_micros();
                    writeln!(
                        table,
                        "{loss:>4}  {reordering:>10}  {duplication:>11}  {window:>6}  {micros:>11}  {goodput:>14.0}  {retransmitted:>13}"
                    )
                    .unwrap();
                }
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulated/table.txt");
    if std::env::var_os("VMMC_UPDATE").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        table == committed,
        "the table is now\n\n{table}\nand {path} has\n\n{committed}\n\
         If the change is wanted: VMMC_UPDATE=1 cargo test -p vmmc --test simulated table"
    );
}
