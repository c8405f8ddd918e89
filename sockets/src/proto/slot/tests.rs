//! The layout of slots, to the bit.

use super::*;
use crate::proto::layout::SESSION_LEN;
use proptest::prelude::*;

fn states() -> impl Strategy<Value = State> {
    let status = prop_oneof![Just(Status::None), Just(Status::Accepted), Just(Status::Refused), Just(Status::Busy)];
    let confirm = (0u32..EPOCHS, any::<u64>()).prop_map(|(epoch, base)| Confirm::new(epoch, base));
    let finish = prop::option::of(0..u64::MAX);
    let head = (0..STREAMS, status, any::<bool>(), any::<bool>(), any::<u64>());
    (head, prop::option::of(grants(0..EPOCHS)), finish, confirm).prop_map(
        |((peer, status, stop, reset, consumed), grant, finish, confirm)| State {
            peer,
            status,
            stop,
            reset,
            consumed,
            grant,
            finish,
            confirm,
        },
    )
}

fn grants(epochs: std::ops::Range<u32>) -> impl Strategy<Value = RingGrant> {
    (12u8..=22, 0..SESSION_LEN / PAGE, epochs).prop_map(|(log2, page, epoch)| RingGrant {
        offset: RINGS + page * PAGE % (SESSION_LEN - RINGS - (1 << log2) + PAGE),
        log2,
        epoch,
    })
}

proptest! {
    #[test]
    fn states_come_back(state in states()) {
        prop_assert_eq!(State::parse(&state.emit(), SESSION_LEN), Ok(state));
    }

    #[test]
    fn requests_come_back(peer in 0..STREAMS, from: u16, to: u16, grant in grants(0..1)) {
        let request = Request { peer, from, to, grant };
        prop_assert_eq!(Request::parse(&request.emit(), SESSION_LEN), Ok(request));
    }

    #[test]
    fn bases_are_found_again(base in 0u64..1 << 60, before in 0u64..1 << 40) {
        let confirm = Confirm::new(3, base);
        prop_assert_eq!(confirm.base_from(base.saturating_sub(before)), base);
    }
}

/// A state in which every word says something, and its bytes as they are documented.
#[test]
fn a_known_state() {
    let state = State {
        peer: 0x1234,
        status: Status::Accepted,
        stop: true,
        reset: true,
        consumed: 0x0102_0304_0506_0708,
        grant: Some(RingGrant { offset: 0x20_0000, log2: 14, epoch: 0xabcdef }),
        finish: Some(0x99),
        confirm: Confirm::new(0x12_3456, 0x00ff_0102_0304_0506),
    };
    let words: [u64; 5] =
        [0x0000_1234_0103_0000, 0x0102_0304_0506_0708, 0x0000_0200_0eab_cdef, 0x9a, 0x1234_5602_0304_0506];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    assert_eq!(state.emit()[..], bytes);
}

fn with_word(index: usize, word: u64) -> Result<State, Violation> {
    let mut bytes = State::default().emit();
    bytes[index * 8..][..8].copy_from_slice(&word.to_be_bytes());
    State::parse(&bytes, SESSION_LEN)
}

#[test]
fn words_that_mean_nothing() {
    for word in [u64::from(STREAMS) << 32, 4 << 24, 1 << 18, 1 << 23, 1, 1 << 15] {
        assert_eq!(with_word(0, word), Err(Violation::Word { word: 0, value: word }));
    }
    assert_eq!(with_word(0, u64::from(STREAMS - 1) << 32 | 3 << 24 | 3 << 16).unwrap().status, Status::Busy);
}

#[test]
fn rings_that_are_none() {
    let ring = |offset: u64, log2: u64| (offset / PAGE) << 32 | log2 << 24;
    for (offset, log2) in [
        (RINGS, 11),
        (RINGS, 23),
        (RINGS, 64),
        (RINGS, 255),
        (RINGS - PAGE, 12),
        (0, 12),
        (SESSION_LEN, 12),
        (SESSION_LEN - PAGE, 13),
        (u64::from(u32::MAX) * PAGE, 22),
    ] {
        assert!(matches!(with_word(2, ring(offset, log2)), Err(Violation::Ring { .. })), "{offset} {log2}");
    }
    assert!(with_word(2, ring(SESSION_LEN - PAGE, 12)).is_ok());
    assert!(with_word(2, ring(RINGS, 22)).is_ok());
}

#[test]
fn a_request_has_the_first_ring_and_an_index() {
    let request = Request { peer: 5, from: 40000, to: 80, grant: RingGrant { offset: RINGS, log2: 12, epoch: 0 } };
    let later = Request { grant: RingGrant { epoch: 1, ..request.grant }, ..request };
    assert_eq!(Request::parse(&later.emit(), SESSION_LEN), Err(Violation::GrantEpoch { expected: 0, found: 1 }));
    let beyond = Request { peer: STREAMS, ..request };
    assert!(matches!(Request::parse(&beyond.emit(), SESSION_LEN), Err(Violation::Word { .. })));
    let mut none = request.emit();
    none[8..].fill(0);
    assert_eq!(Request::parse(&none, SESSION_LEN), Err(Violation::NoRing));
}
