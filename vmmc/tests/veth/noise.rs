//! Garbage from a kernel socket to our port: refused and counted, and the traffic beside it goes on.

use std::net::UdpSocket;

use vmmc::{Bulk, Progress};

use crate::hosts::{KEY, PATIENCE, address, lab, open_with, pattern};

#[test]
fn garbage_beside_real_traffic() {
    let lab = lab(3, 1500);
    // What a kernel sends arrives on any queue; one that the bulk lane has leads to the kernel.
    let open = |host| open_with(&lab, host, |b| b.bulk(Bulk::Never).progress(Progress::Thread { core: None })).unwrap();
    let (a, b) = (open(1), open(2));
    let inbox = b.export("inbox").len(3_000_000).key(KEY).notify(true).create().unwrap();
    let target = address(&lab, 2);
    let remote = a.import(target, "inbox", KEY).unwrap();
    const GARBAGE: u64 = 3000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            lab.host(3)
                .enter(|| {
                    let socket = UdpSocket::bind("0.0.0.0:7000").unwrap();
                    let mut seed = 1u64;
                    for i in 0..GARBAGE {
                        let mut bytes: Vec<u8> = (0..i % 1400)
                            .map(|_| {
                                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                                (seed >> 56) as u8
                            })
                            .collect();
                        // Every other looks like ours at first sight.
                        if i % 2 == 0 && bytes.len() > 8 {
                            bytes[4..8].copy_from_slice(&[2, 1 + (i / 2 % 6) as u8, 4, 0]);
                        }
                        socket.send_to(&bytes, target).unwrap();
                        if i % 16 == 0 {
                            std::thread::yield_now();
                        }
                    }
                })
                .unwrap();
        });
        for salt in 0..5 {
            remote.send(&pattern(3_000_000, salt), 0).notify(salt.into()).wait().unwrap();
            assert_eq!(inbox.wait_notification(PATIENCE).unwrap().tag, u32::from(salt));
            let mut seen = vec![0; 3_000_000];
            inbox.read(0, &mut seen).unwrap();
            assert!(seen == pattern(3_000_000, salt));
        }
    });
    let stats = b.stats().unwrap();
    let refused = stats.engine.rx_malformed + stats.engine.rx_damaged + stats.engine.rx_unknown;
    assert!(refused > 0, "{stats:?}");
    // A frame or two may be dropped by the kernel where a ring is full, and then that is counted there.
    let dropped = stats.port.rx_no_frame + stats.port.rx_ring_full;
    assert!(refused + dropped >= GARBAGE / 2, "{refused} refused, {dropped} dropped of {GARBAGE}: {stats:?}");
    assert_eq!(stats.links.len(), 1, "garbage makes no links");
}
