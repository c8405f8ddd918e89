//! `vmmc-bench versus`: what is measured when everything is compared with everything.
//!
//! All constants that decide between time and precision are here. A ratio's precision comes from the number of turns. A slice is as short as
//! still lets a stream get going, because what is compared follows closely then, and many short ones say more than a few long ones. Opening and closing
//! takes all peers together about a second in each round, because the kernel takes its time to attach programs and to let go of queues; so there are
//! several turns after one opening. Not too many: each opening has some luck of its own. A peer whose figures jump by themselves, `ucx-put`, has no place
//! in a quick comparison, and one that does what another does neither.

use std::time::Duration;

use vmmc::port::fault::Faults;

use crate::spec::{Bench, Spec};

/// The MTUs of a comparison, unless others are asked for.
pub(crate) const MTUS: [u32; 3] = [1500, 9000, 65535];

/// What a comparison is made of.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Sizes of messages of which the latency is measured, bytes.
    latency: &'static [usize],
    /// Sizes of messages that are streamed, bytes.
    bandwidth: &'static [usize],
    /// Sizes of messages that are streamed with a copy at both ends, by those for which that isn't the only way.
    copied: &'static [usize],
    /// Size of the messages that are counted.
    rate: &'static [usize],
    /// Over how many connections requests and answers go at once, and over one by calls that wait.
    requests: &'static [u64],
    /// How many connections are opened and closed at a time.
    connects: &'static [u64],
    /// How many connections are idle, at the first MTU.
    idle: Option<u64>,
    /// How long each of these takes in each turn, milliseconds: those of one connection.
    pub(crate) slice: u64,
    /// The same of streams of large messages: TCP's begin slowly.
    pub(crate) stream_slice: u64,
    /// The same of those that have to get into their stride: requests, and connections that come and go.
    pub(crate) long_slice: u64,
    /// How often each of these is made in each round: one after another, and then all again.
    pub(crate) turns: usize,
    /// Whether requests and connections, which are small, are measured at the first MTU only.
    pub(crate) once_small: bool,
    /// How many packets are lost where streams lose some, percent: nothing at first, which the others are compared with.
    loss: &'static [f64],
    /// How long such a stream goes on in each round, milliseconds: TCP waits for at least 200 when it has lost enough.
    loss_slice: u64,
    /// How long the rounds go on, in all labs together, the making of labs included.
    pub(crate) time: Duration,
    /// Who is measured, if it is there.
    pub(crate) peers: &'static [&'static str],
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A minute and a half.
pub(crate) static QUICK: Shape = Shape {
    latency: &[8, 4 * KIB, MIB],
    bandwidth: &[4 * KIB, MIB],
    copied: &[MIB],
    rate: &[64],
    requests: &[1, 32],
    connects: &[1],
    idle: None,
    slice: 12,
    stream_slice: 36,
    long_slice: 24,
    turns: 3,
    once_small: true,
    loss: &[],
    loss_slice: 0,
    time: Duration::from_secs(86),
    peers: &[
        "floor",
        "floor-gather",
        "vmmc",
        "vmmc-eager",
        "sockets",
        "sockets-owned",
        "sockets-block",
        "tcp",
        "tcp-nooff",
        "tcp-block",
        "ucx",
    ],
};

/// Under ten minutes, of which what is measured once takes half a minute.
pub(crate) static FULL: Shape = Shape {
    latency: &[8, 64, 512, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB],
    bandwidth: &[64, 512, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB],
    copied: &[64 * KIB, MIB],
    rate: &[64],
    requests: &[1, 32, 1000],
    connects: &[1, 16],
    idle: Some(IDLE),
    slice: 40,
    stream_slice: 60,
    long_slice: 120,
    turns: 1,
    once_small: false,
    loss: &[0.0, 1.0],
    loss_slice: 500,
    time: Duration::from_secs(540),
    peers: &[
        "floor",
        "floor-gather",
        "vmmc",
        "vmmc-eager",
        "vmmc-block",
        "vmmc-eager-block",
        "sockets",
        "sockets-eager",
        "sockets-owned",
        "sockets-block",
        "tcp",
        "tcp-nooff",
        "tcp-block",
        "tcp-block-nooff",
        "ucx",
        "ucx-put",
    ],
};

/// Size of a request and of its answer, bytes.
pub(crate) const REQUEST: usize = KIB;

/// Idle connections, the size of the message that each has carried, and how long their memory may take to keep still, milliseconds.
pub(crate) const IDLE: u64 = 2000;
pub(crate) const IDLE_MESSAGE: usize = 100;
pub(crate) const IDLE_MILLIS: u64 = 20_000;

impl Shape {
    /// What is measured at an MTU, the first one or another; how long, and at which, is for the caller to say.
    pub(crate) fn specs(&self, first: bool) -> Vec<Spec> {
        let of =
            |bench, sizes: &'static [usize]| sizes.iter().map(move |&size| Spec { bench, size, ..Spec::default() });
        of(Bench::Lat, self.latency)
            .chain(of(Bench::Bw, self.bandwidth))
            .chain(of(Bench::BwCopy, self.copied))
            .chain(of(Bench::Rate, self.rate))
            .chain(self.of_connections().filter(|_| first || !self.once_small))
            .map(|spec| Spec { millis: self.slice_of(&spec), ..spec })
            .collect()
    }

    /// How long this is to take.
    pub(crate) fn slice_of(&self, spec: &Spec) -> u64 {
        match spec.bench {
            Bench::Bw | Bench::BwCopy if spec.size >= 64 * KIB => self.stream_slice,
            bench if bench.is_about_streams() => self.long_slice,
            _ => self.slice,
        }
    }

    /// What is measured of requests, and of connections that come and go.
    fn of_connections(&self) -> impl Iterator<Item = Spec> {
        let requests =
            self.requests.iter().map(|&count| Spec { bench: Bench::Rr, count, size: REQUEST, ..Spec::default() });
        let plain = [Spec { bench: Bench::RrPlain, count: 1, size: REQUEST, ..Spec::default() }];
        let connects =
            self.connects.iter().map(|&count| Spec { bench: Bench::Connect, count, size: 1, ..Spec::default() });
        requests.chain(plain).chain(connects)
    }

    /// Streams that lose packets, at each MTU, in labs of their own.
    pub(crate) fn lossy(&self) -> Vec<Spec> {
        let spec = |&percent: &f64| Spec {
            bench: Bench::Loss,
            size: MIB,
            millis: self.loss_slice,
            faults: Faults { drop: percent / 100.0, ..Faults::default() },
            ..Spec::default()
        };
        self.loss.iter().map(spec).collect()
    }

    /// What is measured at the first MTU only.
    pub(crate) fn once(&self) -> Option<Spec> {
        let spec = |count| Spec {
            bench: Bench::IdleStreams,
            count,
            size: IDLE_MESSAGE,
            millis: IDLE_MILLIS,
            ..Spec::default()
        };
        self.idle.map(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers;
    use crate::rounds::LEAST;

    /// What all peers together take in a round beyond their slices, milliseconds, to be opened and closed: half as much again as was seen.
    const OPENING: u64 = 1500;
    /// The same of one that is opened alone, and of each measurement that is a program of its own.
    const ALONE: u64 = 400;
    const PROGRAM: u64 = 60;
    /// What a lab for each peer takes to make and remove, milliseconds: twice what was seen.
    const LABS: u64 = 2000;

    /// What a connection takes to open, milliseconds: several times what was seen.
    const CONNECTION: f64 = 0.3;

    fn is_able(name: &str, spec: &Spec) -> bool {
        let peer = peers::find(name).expect(name);
        peer.measures(spec.bench) && spec.size >= peer.least_size()
    }

    /// How long the fewest rounds take.
    fn least(shape: &Shape) -> Duration {
        let round = |first: bool| -> u64 {
            let specs = shape.specs(first);
            let slices = |name: &&str| {
                let peer = peers::find(name).expect(name);
                let mine = specs.iter().filter(|spec| is_able(name, spec));
                let program = peer.needs().map_or(0, |_| PROGRAM);
                let each = mine.map(|spec| program + spec.millis + (CONNECTION * spec.count as f64) as u64);
                shape.turns as u64 * each.sum::<u64>()
            };
            OPENING + shape.peers.iter().map(slices).sum::<u64>()
        };
        let rounds = round(true) + (MTUS.len() as u64 - 1) * round(false);
        let labs = MTUS.len() as u64;
        let able = |spec: &Spec| shape.peers.iter().filter(|name| is_able(name, spec)).count() as u64;
        let once = shape.once().map_or(0, |spec| able(&spec) * 3 * spec.millis);
        let lossy = shape.lossy().into_iter().map(|spec| LABS + able(&spec) * LEAST as u64 * (ALONE + spec.millis));
        let once = once + labs * lossy.sum::<u64>();
        Duration::from_millis(labs * LABS + LEAST as u64 * rounds + once)
    }

    #[test]
    fn a_quick_comparison_takes_ninety_seconds_at_most_and_a_full_one_ten_minutes() {
        for (shape, most) in [(&QUICK, 90), (&FULL, 600)] {
            let least = least(shape);
            assert!(least <= shape.time, "{least:?} of {:?}", shape.time);
            // A round is begun if one that takes as long as the longest yet will be over in time. Then labs are removed.
            assert!(shape.time.mul_f64(1.04) <= Duration::from_secs(most), "{:?}", shape.time);
        }
    }

    #[test]
    fn a_comparison_goes_from_eight_bytes_to_a_mebibyte() {
        for shape in [&QUICK, &FULL] {
            assert_eq!((shape.latency[0], shape.latency.last()), (8, Some(&MIB)));
            assert!([shape.latency, shape.bandwidth].iter().all(|sizes| sizes.is_sorted()));
            // All that can be compared at all fits everybody.
            let specs = shape.specs(true);
            let alike = specs.iter().filter(|spec| spec.count == 0);
            for (spec, mtu) in alike.flat_map(|spec| MTUS.map(|mtu| (spec, mtu))) {
                let spec = Spec { mtu, ..spec.clone() };
                let refused = shape.peers.iter().find_map(|name| peers::find(name).expect(name).refuses(&spec));
                assert_eq!(refused, None);
            }
        }
    }
}
