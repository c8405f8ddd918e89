//! What a capture sees of the simulated network, and what it misses.

use super::*;
use crate::port::fault::FaultPort;
use crate::port::sim::{Conditions, Network, SimPort};
use crate::time::Time;

const HEAD: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];

fn pair() -> (Network, SimPort, SimPort) {
    let network = Network::new(1, Conditions::default());
    let (a, b) = (network.attach([2, 0, 0, 0, 0, 1]), network.attach([2, 0, 0, 0, 0, 2]));
    (network, a, b)
}

fn send(port: &mut dyn Port, fill: u8, len: usize) {
    let mut packet = port.alloc(0).unwrap();
    port.append(&mut packet, &HEAD);
    port.append(&mut packet, &vec![fill; len - HEAD.len()]);
    assert!(port.submit(&packet));
    port.free(packet);
}

/// All that the capture has; whether it has ended, and how many frames were missed.
fn drain(capture: &Capture) -> (Vec<Frame>, bool, u32) {
    let (mut bytes, mut frames, mut lost) = (Vec::new(), Vec::new(), 0);
    let more = capture.take(&mut bytes);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (item, missed) = read(&mut rest).unwrap();
        lost += missed;
        match item {
            Item::Frame(frame) => frames.push(frame),
            Item::End => assert!(!more && rest.is_empty(), "nothing follows the end"),
        }
    }
    (frames, !more, lost)
}

#[test]
fn both_directions_and_no_more_than_was_asked_for() {
    let (network, mut a, mut b) = pair();
    let (mut tap, mut other) = (Tap::default(), Tap::default());
    send(Wire::new(&mut a, &mut tap).port(), 1, 100);
    let (whole, short) = (tap.capture(usize::MAX).unwrap(), tap.capture(20).unwrap());
    let receiver = other.capture(usize::MAX).unwrap();
    for (fill, len) in [(2, 60), (3, 1400)] {
        send(Wire::new(&mut a, &mut tap).port(), fill, len);
    }
    network.advance(Time::from_nanos(1_000_000));
    let mut arrived = Vec::new();
    Wire::new(&mut b, &mut other).port().receive(&mut arrived).unwrap();
    assert_eq!(arrived.len(), 3, "the port does its work");
    let seen = |frames: Vec<Frame>| -> Vec<_> {
        frames.into_iter().map(|f| (f.direction, f.length, f.bytes.len(), f.bytes[14])).collect()
    };
    let (sent, received) = (Direction::Sent, Direction::Received);
    assert_eq!(seen(drain(&whole).0), [(sent, 60, 60, 2), (sent, 1400, 1400, 3)]);
    assert_eq!(seen(drain(&short).0), [(sent, 60, 20, 2), (sent, 1400, 20, 3)]);
    let all = [(received, 100, 100, 1), (received, 60, 60, 2), (received, 1400, 1400, 3)];
    assert_eq!(seen(drain(&receiver).0), all);
    drop(whole);
    send(Wire::new(&mut a, &mut tap).port(), 4, 60);
    assert_eq!(tap.outlets.len(), 1, "nobody reads the other");
    drop(short);
    assert!(matches!(Wire::new(&mut a, &mut tap), Wire::Tapped(_)), "this one notices");
    assert!(matches!(Wire::new(&mut a, &mut tap), Wire::Plain(_)));
}

#[test]
fn what_doesn_t_fit_is_counted_and_the_end_is_told() {
    let (_network, mut a, _b) = pair();
    let mut tap = Tap::default();
    let capture = tap.capture(usize::MAX).unwrap();
    let fit = CAPACITY / (RAW_LEN + 1500);
    for _ in 0..fit + 7 {
        send(Wire::new(&mut a, &mut tap).port(), 1, 1500);
    }
    let (frames, ended, missed) = drain(&capture);
    assert_eq!((frames.len(), ended, missed), (fit, false, 0));
    send(Wire::new(&mut a, &mut tap).port(), 1, 1500);
    let (frames, ended, missed) = drain(&capture);
    assert_eq!((frames.len(), ended, missed), (1, false, 7));
    for _ in 0..fit + 2 {
        send(Wire::new(&mut a, &mut tap).port(), 1, 1500);
    }
    drop(tap);
    let (frames, ended, missed) = drain(&capture);
    assert_eq!((frames.len(), ended, missed), (fit, true, 2));
}

#[test]
fn there_is_a_limit_and_room_again() {
    let mut tap = Tap::default();
    let mut captures: Vec<_> = (0..MAX_CAPTURES).map(|_| tap.capture(100).unwrap()).collect();
    assert_eq!(tap.capture(100).map(drop), Err(TooManyCaptures));
    captures.pop();
    tap.capture(100).unwrap();
}

#[test]
fn faults_are_made_behind_it() {
    let (network, a, mut b) = pair();
    let mut lossy = FaultPort::new(Box::new(a), "drop=100%".parse().unwrap()).unwrap();
    let mut tap = Tap::default();
    let capture = tap.capture(100).unwrap();
    send(Wire::new(&mut lossy, &mut tap).port(), 1, 60);
    network.advance(Time::from_nanos(1_000_000));
    let mut arrived = Vec::new();
    b.receive(&mut arrived).unwrap();
    assert_eq!((arrived.len(), drain(&capture).0.len()), (0, 1));
}

#[test]
fn what_is_no_stream_is_refused() {
    let frame = |what, length: u32, captured: u32| Raw {
        time: 1.into(),
        missed: 0.into(),
        length: length.into(),
        captured: captured.into(),
        what,
        reserved: [0; 3],
    };
    let kind = |raw: Raw| read(&mut raw.as_bytes()).unwrap_err().kind();
    assert_eq!(kind(frame(7, 1, 1)), io::ErrorKind::InvalidData);
    assert_eq!(kind(frame(SENT, 1, 2)), io::ErrorKind::InvalidData);
    assert_eq!(kind(frame(SENT, u32::MAX, u32::MAX)), io::ErrorKind::InvalidData);
    assert_eq!(kind(frame(SENT, u32::MAX, 0)), io::ErrorKind::InvalidData);
    assert_eq!(kind(frame(SENT, 2, 2)), io::ErrorKind::UnexpectedEof);
    assert_eq!(read(&mut frame(END, 0, 0).as_bytes()).unwrap(), (Item::End, 0));
}
