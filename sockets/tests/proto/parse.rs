//! Any bytes as tag, state and request: they are refused, or written back as they were.
//!
//! [`check`] is also the body of the fuzz target `slot`.

use vmmc_sockets::proto::layout::{MAX_RING, MIN_RING, PAGE, RINGS, SESSION_LEN};
use vmmc_sockets::proto::slot::{REQUEST_LEN, STATE_LEN};
use vmmc_sockets::proto::{Request, RingGrant, State, Tag};

/// Reads the bytes as all that they may be. Bytes that are missing are zeros.
pub fn check(bytes: &[u8]) {
    let mut slot = [0; STATE_LEN];
    let len = bytes.len().min(STATE_LEN);
    slot[..len].copy_from_slice(&bytes[..len]);

    let tag = u32::from_be_bytes(slot[..4].try_into().unwrap());
    if let Ok(parsed) = Tag::parse(tag) {
        assert_eq!(parsed.to_u32(), tag);
    }
    if let Ok(state) = State::parse(&slot, SESSION_LEN) {
        assert_eq!(state.emit(), slot);
        state.grant.into_iter().for_each(ring);
    }
    let slot: [u8; REQUEST_LEN] = slot[..REQUEST_LEN].try_into().unwrap();
    if let Ok(request) = Request::parse(&slot, SESSION_LEN) {
        assert_eq!(request.emit(), slot);
        ring(request.grant);
    }
}

fn ring(grant: RingGrant) {
    let len = grant.bytes();
    assert!(len.is_power_of_two() && (MIN_RING..=MAX_RING).contains(&len));
    assert!(grant.offset.is_multiple_of(PAGE) && grant.offset >= RINGS && grant.offset + len <= SESSION_LEN);
}
