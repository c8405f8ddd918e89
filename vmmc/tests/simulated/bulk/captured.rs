//! Captures: packets of the lane are seen at both ends, and what is built again at the one is what was sent by the other.

use vmmc::port::sim::Conditions;
use vmmc::port::tap::{Capture, Direction, Frame, Item, read};
use vmmc::wire::frame::Datagram;
use vmmc::wire::{BULK_HEADER_LEN, BulkHeader};

use super::chaos::Put;
use super::{readable, world_with};
use crate::lanes::lane;
use crate::world::{World, address, contents};

/// What a capture has seen of the lane.
fn drain(capture: &Capture) -> Vec<Frame> {
    let mut bytes = Vec::new();
    capture.take(&mut bytes);
    let (mut rest, mut frames) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let (item, missed) = read(&mut rest).unwrap();
        assert_eq!(missed, 0);
        let Item::Frame(frame) = item else { panic!("it goes on") };
        frames.push(frame);
    }
    // The lane has the UDP port after the node's.
    let lane = address(0).port() + 1;
    frames.retain(|frame| Datagram::parse(&frame.bytes, frame.length).is_ok_and(|d| d.destination.port() == lane));
    frames
}

fn put(world: &mut World, len: usize) -> Vec<u8> {
    let (_, region) = readable(world, 1, "inbox", len);
    let import = world.import(0, 1, "inbox").unwrap();
    let mut put = Put::new(world, 0, import, 7, len, 0, 1);
    put.finish(world).unwrap();
    assert!(contents(&region) == put.data);
    let data = put.data.clone();
    put.give_back();
    data
}

#[test]
fn what_is_built_again_is_what_was_sent() {
    const LEN: usize = 300_000;
    for (strip, mtu) in [(true, 9000), (false, 9000), (true, 1500)] {
        let mut world = world_with((0..2).map(|host| Some(lane(host, strip))).collect(), 1, mtu);
        let [sent, received] = [0, 1].map(|host| world.hosts[host].tap.capture(usize::MAX).unwrap());
        let short = [0, 1].map(|host| world.hosts[host].tap.capture(100).unwrap());
        let data = put(&mut world, LEN);
        let (sent, received) = (drain(&sent), drain(&received));
        assert!(sent.iter().all(|frame| frame.direction == Direction::Sent && !frame.rebuilt));
        assert!(received.iter().all(|frame| frame.direction == Direction::Received && frame.rebuilt));
        let bytes = |frames: &[Frame]| frames.iter().map(|f| (f.length, f.bytes.clone())).collect::<Vec<_>>();
        assert!(bytes(&sent) == bytes(&received), "{} sent, {} received", sent.len(), received.len());
        assert!(sent.len() >= LEN / mtu && sent.iter().all(|frame| frame.bytes.len() == frame.length));
        // Each with the payload that belongs there, and a checksum that is right.
        let mut seen = Vec::new();
        for frame in received.iter().rev() {
            let payload = &frame.bytes[Datagram::parse(&frame.bytes, frame.length).unwrap().start..];
            let (header, payload) = payload.split_first_chunk::<BULK_HEADER_LEN>().unwrap();
            let (parsed, checksum) = BulkHeader::parse(header).unwrap();
            assert_eq!(Some(parsed.checksum(header[6], |take| take(payload))), checksum);
            seen.extend_from_slice(payload);
        }
        assert!(seen == data[LEN - seen.len()..]);
        // Of each no more than was asked for.
        let [short_sent, short_received] = short.map(|capture| drain(&capture));
        assert!(bytes(&short_sent) == bytes(&short_received) && short_sent.len() == sent.len());
        for (short, whole) in short_sent.iter().zip(&sent) {
            assert!(short.length == whole.length && short.bytes == whole.bytes[..100.min(whole.length)]);
        }
    }
}

#[test]
fn what_is_lost_on_the_way_isn_t_received_and_what_is_damaged_is_seen_as_it_came() {
    let mut world = world_with((0..2).map(|host| Some(lane(host, true))).collect(), 3, 1500);
    let bad = Conditions { loss: 0.05, corruption: 0.05, max_frame: 1518, ..Conditions::default() };
    world.network.set_conditions(bad);
    let [sent, received] = [0, 1].map(|host| world.hosts[host].tap.capture(usize::MAX).unwrap());
    put(&mut world, 1 << 20);
    let (sent, received) = (drain(&sent), drain(&received));
    assert!(received.len() < sent.len(), "{} of {}", received.len(), sent.len());
    let foreign = received.iter().filter(|frame| sent.iter().all(|sent| sent.bytes != frame.bytes)).count();
    let wasted = world.hosts[1].engine.counters().rx_bulk_wasted;
    assert!(foreign > 0 && foreign as u64 <= wasted, "{foreign} of {wasted}");
}
