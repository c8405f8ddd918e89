//! From a command to what is to be measured.

use super::*;
use crate::error::BenchError;
use crate::peers::{self, PEERS, Peer};
use crate::rounds::{Plan, Rounds};
use crate::soak;
use crate::spec::{Bench, Spec};
use crate::{thresholds, versus};

impl Soak {
    /// Who is to do what.
    pub(crate) fn plan(&self) -> Result<(&'static dyn Peer, Spec), BenchError> {
        let peer = peers::find(&self.peer).filter(|peer| peer.measures(Bench::Soak));
        let unknown = || BenchError::UnknownPeer { name: self.peer.clone(), known: peers::names(Some(Bench::Soak)) };
        let spec = Spec {
            bench: Bench::Soak,
            mtu: self.mtu,
            one_queue: self.one_queue,
            size: soak::LARGEST,
            bytes: if self.duration.is_some() { u64::MAX } else { self.bytes },
            // A day.
            millis: self.duration.unwrap_or(86_400_000),
            count: self.restarts,
            faults: self.fault,
            ..Spec::default()
        };
        Ok((peer.ok_or_else(unknown)?, spec))
    }
}

impl Command {
    /// What is to be measured and how to report it; none for the commands that don't measure in rounds.
    pub(crate) fn plan(&self) -> Result<Option<(Plan, &Common)>, BenchError> {
        let with_sizes = |benches: &[Bench], sizes: &[usize]| {
            let spec = |bench, &size| Spec { bench, size, ..Spec::default() };
            benches.iter().flat_map(|&bench| sizes.iter().map(move |size| spec(bench, size))).collect::<Vec<_>>()
        };
        let planned = match self {
            Command::Completions(_)
            | Command::Man(_)
            | Command::Worker(_)
            | Command::Tied(_)
            | Command::Soak(_)
            | Command::Compare(_) => return Ok(None),
            Command::Versus(Versus { common }) => (common.versus_plan()?, common),
            Command::Floor(common) => (common.floor_plan()?, common),
            Command::Lat(Lat { size, common }) => (common.plan(|_| with_sizes(&[Bench::Lat], size))?, common),
            Command::Bw(Bw { size, common }) => {
                (common.plan(|_| with_sizes(&[Bench::Bw, Bench::BwCopy], size))?, common)
            }
            Command::Rate(Rate { size, common }) => (common.plan(|_| with_sizes(&[Bench::Rate], size))?, common),
            Command::Rr(Rr { connections, size, common }) => {
                let over =
                    |spec: &Spec| connections.iter().map(|&count| Spec { count, ..spec.clone() }).collect::<Vec<_>>();
                let many = with_sizes(&[Bench::Rr], size).iter().flat_map(over).collect::<Vec<_>>();
                let one = with_sizes(&[Bench::RrPlain], size).into_iter().map(|spec| Spec { count: 1, ..spec });
                let specs: Vec<_> = many.into_iter().chain(one).collect();
                (common.plan(|_| specs.clone())?, common)
            }
            Command::Connect(Connect { parallel, common }) => {
                let spec = |&count| Spec { bench: Bench::Connect, size: 1, count, ..Spec::default() };
                (common.plan(|_| parallel.iter().map(spec).collect())?, common)
            }
            Command::Idle(Idle { connections, size, common }) => {
                let spec = |&count| Spec { bench: Bench::IdleStreams, size: *size, count, ..Spec::default() };
                (common.few(common.plan(|_| connections.iter().map(spec).collect())?), common)
            }
            Command::Loss(Loss { loss, size, common }) => {
                let at = |spec: &Spec, percent: &f64| Spec {
                    faults: Faults { drop: percent / 100.0, ..Faults::default() },
                    ..spec.clone()
                };
                let specs = with_sizes(&[Bench::Loss], size);
                (common.plan(|_| specs.iter().flat_map(|s| loss.iter().map(|l| at(s, l))).collect())?, common)
            }
            Command::Incast(Incast { senders, size, common }) => {
                let specs: Vec<_> = with_sizes(&[Bench::Incast], size);
                let specs: Vec<_> = specs.into_iter().map(|spec| Spec { count: *senders, ..spec }).collect();
                (common.plan(|_| specs.clone())?, common)
            }
            Command::Thresholds(thresholds) => (thresholds.plan()?, &thresholds.common),
            Command::Scale(scale) => (scale.plan()?, &scale.common),
            Command::Memory(Memory { size, common }) => {
                let specs = [
                    with_sizes(&[Bench::Source, Bench::Deliver], size),
                    with_sizes(&[Bench::Access], &[64]),
                    with_sizes(&[Bench::Utlb], &[4096]),
                ];
                (common.plan(|_| specs.concat())?, common)
            }
        };
        Ok(Some(planned))
    }
}

impl Thresholds {
    fn plan(&self) -> Result<Plan, BenchError> {
        let Thresholds { size, common, .. } = self;
        let given = [
            ("--peers", !common.peers.is_empty()),
            ("--one-queue", common.one_queue),
            ("--bulk-from", common.bulk_from.is_some()),
        ];
        if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(BenchError::Senseless(option));
        }
        let each = |bench| size.iter().map(move |&size| Spec { bench, size, ..Spec::default() });
        let specs = |_: u32| each(Bench::Lat).chain(each(Bench::Bw)).collect();
        let mtus = if common.mtu.is_empty() { &versus::MTUS[..] } else { &common.mtu };
        let mut plan = common.plan_at(mtus, specs, &thresholds::PEERS)?;
        for spec in &mut plan.specs {
            spec.bulk_from = size.iter().copied().min();
            // Many short rounds say more than a few long ones.
            spec.millis = common.duration.unwrap_or(if common.quick { 50 } else { 150 });
        }
        Ok(plan)
    }
}

impl Scale {
    fn plan(&self) -> Result<Plan, BenchError> {
        let (size, pause) = (self.size as usize, self.pause);
        let links = |&count| Spec { bench: Bench::Links, count, size, pause, ..Spec::default() };
        let idle = Spec { bench: Bench::Idle, ..Spec::default() };
        Ok(self.common.few(self.common.plan(|_| self.links.iter().map(links).chain([idle.clone()]).collect())?))
    }
}

impl Common {
    fn versus_plan(&self) -> Result<Plan, BenchError> {
        let shape = if self.quick { &versus::QUICK } else { &versus::FULL };
        let mtus = if self.mtu.is_empty() { versus::MTUS.to_vec() } else { self.mtu.clone() };
        let specs = |mtu| {
            let first = mtus.first() == Some(&mtu);
            let once = shape.once().filter(|_| first);
            let each = shape
                .specs(first)
                .into_iter()
                .map(|spec| Spec { millis: self.duration.unwrap_or(spec.millis), ..spec });
            let samples = self.samples.unwrap_or(u64::MAX);
            each.chain(once).map(move |spec| Spec { mtu, samples, ..spec }).collect::<Vec<_>>()
        };
        // Before all others, which share the time that is left.
        let lossy = |mtu| {
            let each = shape.lossy().into_iter();
            each.map(move |spec| Spec { mtu, samples: u64::MAX, millis: self.duration.unwrap_or(spec.millis), ..spec })
        };
        let all = mtus.iter().flat_map(|&mtu| lossy(mtu)).chain(mtus.iter().flat_map(|&mtu| specs(mtu))).collect();
        let rounds = self.rounds.map_or(Rounds::Time(shape.time), Rounds::Count);
        let mut plan = Plan { turns: shape.turns, ..self.complete(all, rounds, shape.peers)? };
        // These take labs of their own, which nobody may be there for.
        let lossy = plan.peers.iter().any(|peer| peer.measures(Bench::Loss));
        plan.specs.retain(|spec| lossy || spec.bench != Bench::Loss);
        Ok(plan)
    }

    /// A plan of long rounds, of which a few are enough.
    fn few(&self, plan: Plan) -> Plan {
        Plan { rounds: Rounds::Count(self.rounds.unwrap_or(3)), ..plan }
    }

    fn floor_plan(&self) -> Result<Plan, BenchError> {
        let mut plan = self.plan(|mtu| {
            let whole = peers::full_payload(mtu);
            [(Bench::Lat, 64), (Bench::Rate, 64), (Bench::Bw, whole), (Bench::BwCopy, whole)]
                .map(|(bench, size)| Spec { bench, size, ..Spec::default() })
                .to_vec()
        })?;
        plan.peers = peers::find("floor").into_iter().collect();
        Ok(plan)
    }

    /// A plan that measures what `what` says for each MTU.
    fn plan(&self, what: impl Fn(u32) -> Vec<Spec>) -> Result<Plan, BenchError> {
        let usual = PEERS.iter().filter(|peer| peer.needs().is_none() && !peer.is_extra());
        let usual: Vec<_> = usual.map(|peer| peer.name()).collect();
        self.plan_at(if self.mtu.is_empty() { &[1500] } else { &self.mtu }, what, &usual)
    }

    /// The same at these MTUs, of the peers that were asked for, or of these.
    fn plan_at(&self, mtus: &[u32], what: impl Fn(u32) -> Vec<Spec>, usual: &[&str]) -> Result<Plan, BenchError> {
        let or = |given: Option<u64>, full, quick| given.unwrap_or(if self.quick { quick } else { full });
        let complete = |mtu, spec: Spec| {
            let (full, quick) = match spec.bench {
                // What is to be seen in idleness happens seldom.
                Bench::Idle => (10_000, 1000),
                Bench::IdleStreams => (versus::IDLE_MILLIS, versus::IDLE_MILLIS),
                // TCP waits for at least 200 ms when it has lost enough.
                Bench::Loss => (2000, 1000),
                _ => (1000, 200),
            };
            Spec { mtu, samples: or(self.samples, 20_000, 5_000), millis: or(self.duration, full, quick), ..spec }
        };
        let specs = mtus.iter().flat_map(|&mtu| what(mtu).into_iter().map(move |spec| complete(mtu, spec)));
        let rounds = Rounds::Count(self.rounds.unwrap_or(if self.quick { 3 } else { 9 }));
        self.complete(specs.collect(), rounds, usual)
    }

    /// The plan that has the peers measured that were asked for, or those of `usual` that are there.
    fn complete(&self, specs: Vec<Spec>, rounds: Rounds, usual: &[&str]) -> Result<Plan, BenchError> {
        let &Common { one_queue, bulk_from, .. } = self;
        let mut all: Vec<Spec> = Vec::new();
        for spec in specs.into_iter().map(|spec| Spec { one_queue, bulk_from, ..spec }) {
            // What is asked for twice is measured once: its turns couldn't be told apart.
            if !all.contains(&spec) {
                all.push(spec);
            }
        }
        let specs = all;
        let able = |peer: &&dyn Peer| specs.iter().any(|spec| peer.measures(spec.bench));
        let chosen = self.chosen()?;
        if let Some(spec) = specs.first()
            && !chosen.is_empty()
            && !chosen.iter().any(&able)
        {
            let name = self.peers.join(", ");
            return Err(BenchError::UnknownPeer { name, known: peers::names(Some(spec.bench)) });
        }
        if let Some(missing) = chosen.iter().find_map(|peer| peer.missing()) {
            return Err(BenchError::Missing(missing));
        }
        if !chosen.is_empty() {
            return Ok(Plan { peers: chosen, missing: Vec::new(), specs, rounds, turns: 1 });
        }
        let wanted = usual.iter().filter_map(|name| peers::find(name)).filter(&able);
        let (there, absent): (Vec<_>, Vec<_>) = wanted.partition(|peer| peer.missing().is_none());
        let mut missing: Vec<String> = absent.iter().filter_map(|peer| peer.missing()).collect();
        // Of two that want the same.
        missing.dedup();
        Ok(Plan { peers: there, missing, specs, rounds, turns: 1 })
    }

    /// The peers that were asked for by name.
    fn chosen(&self) -> Result<Vec<&'static dyn Peer>, BenchError> {
        let unknown = |name: &String| BenchError::UnknownPeer { name: name.clone(), known: peers::names(None) };
        let mut chosen: Vec<&'static dyn Peer> = Vec::new();
        for name in &self.peers {
            let peer = peers::find(name).ok_or_else(|| unknown(name))?;
            if chosen.iter().all(|c| c.name() != peer.name()) {
                chosen.push(peer);
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn plan(line: &str) -> Result<Plan, BenchError> {
        let cli = Cli::try_parse_from(line.split(' ')).expect(line);
        cli.command.plan().map(|p| p.expect("a command that measures").0)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_floor_is_measured_with_packets_as_large_as_the_mtu() {
        let plan = plan("vmmc-bench floor --mtu 1500,9000 --quick").unwrap();
        assert_eq!(plan.peers.iter().map(|p| p.name()).collect::<Vec<_>>(), ["floor"]);
        assert_eq!(plan.rounds, Rounds::Count(3));
        let sizes: Vec<_> = plan.specs.iter().map(|s| (s.mtu, s.bench.name(), s.size)).collect();
        assert_eq!(sizes[..2], [(1500, "lat", 64), (1500, "rate", 64)]);
        assert_eq!(sizes[6..], [(9000, "bw", 8972), (9000, "bw-copy", 8972)]);
    }

    #[test]
    fn a_comparison_has_its_own_peers_sizes_and_time() {
        let quick = plan("vmmc-bench versus --quick --mtu 9000").unwrap();
        assert_eq!(quick.rounds, Rounds::Time(versus::QUICK.time));
        let slice = |spec: &Spec| versus::QUICK.slice_of(spec);
        assert!(quick.specs.iter().all(|spec| (spec.mtu, spec.millis) == (9000, slice(spec))));
        assert_eq!(quick.peers.len() + quick.missing.len(), versus::QUICK.peers.len());
        let full = plan("vmmc-bench versus --duration 70 --rounds 4 --peers vmmc-nocrc").unwrap();
        assert_eq!((full.rounds, full.peers.len(), full.specs[0].millis), (Rounds::Count(4), 1, 70));
        // Once in all, and for as long as it takes.
        let idle: Vec<_> = full.specs.iter().filter(|spec| spec.bench == Bench::IdleStreams).collect();
        assert_eq!(idle.iter().map(|spec| (spec.mtu, spec.millis)).collect::<Vec<_>>(), [(1500, versus::IDLE_MILLIS)]);
        let mut mtus: Vec<_> = full.specs.iter().map(|spec| spec.mtu).collect();
        mtus.dedup();
        assert_eq!(mtus, versus::MTUS);
        let lossy = plan("vmmc-bench versus --mtu 9000,65535 --peers vmmc,tcp").unwrap();
        let seen = lossy.specs.iter().take_while(|spec| spec.bench == Bench::Loss).map(|s| (s.mtu, s.faults.drop));
        assert_eq!(seen.collect::<Vec<_>>(), [(9000, 0.0), (9000, 0.01), (65535, 0.0), (65535, 0.01)]);
        assert_eq!((quick.turns, lossy.turns), (3, 1));
    }

    #[test]
    fn what_is_asked_for_twice_is_measured_once() {
        let sizes = |line| plan(line).unwrap().specs.iter().map(|s| (s.mtu, s.size)).collect::<Vec<_>>();
        assert_eq!(sizes("vmmc-bench lat --size 64,128,64 --mtu 1500,1500"), [(1500, 64), (1500, 128)]);
        assert_eq!(sizes("vmmc-bench lat --size 8 --mtu 1500,9000,1500"), [(1500, 8), (9000, 8)]);
    }

    #[test]
    fn losses_senders_and_links_are_measured_one_after_another() {
        let loss = plan("vmmc-bench loss --loss 0,0.5% --size 1k,2k").unwrap();
        let seen: Vec<_> = loss.specs.iter().map(|s| (s.size, s.faults.drop)).collect();
        assert_eq!(seen, [(1024, 0.0), (1024, 0.005), (2048, 0.0), (2048, 0.005)]);
        assert_eq!(plan("vmmc-bench incast --senders 7").unwrap().specs[0].count, 7);
        let scale = plan("vmmc-bench scale --links 0,9").unwrap();
        let seen: Vec<_> = scale.specs.iter().map(|s| (s.bench.name(), s.count, s.millis)).collect();
        assert_eq!(seen, [("links", 0, 1000), ("links", 9, 1000), ("idle", 0, 10_000)]);
    }

    #[test]
    fn connections_are_measured_by_their_number() {
        let seen = |line| -> Vec<_> {
            plan(line).unwrap().specs.iter().map(|s| (s.bench.name(), s.size, s.count, s.millis)).collect()
        };
        let rr = seen("vmmc-bench rr --connections 1,32 --size 64,1k --duration 50");
        assert_eq!(rr[..2], [("rr", 64, 1, 50), ("rr", 64, 32, 50)]);
        assert_eq!(rr[4..], [("rr-plain", 64, 1, 50), ("rr-plain", 1024, 1, 50)]);
        assert_eq!(seen("vmmc-bench connect --parallel 1,4 --quick"), [("connect", 1, 1, 200), ("connect", 1, 4, 200)]);
        assert_eq!(seen("vmmc-bench idle"), [("idle-streams", 100, 2000, versus::IDLE_MILLIS)]);
        let names = |line| plan(line).unwrap().peers.iter().map(|p| p.name()).collect::<Vec<_>>();
        assert_eq!(names("vmmc-bench rr"), ["sockets", "sockets-block", "tcp", "tcp-block"]);
        assert_eq!(names("vmmc-bench idle"), ["sockets-block", "tcp-block"]);
        // Threads that spin would fight for a core.
        let left_out = plan("vmmc-bench connect --parallel 16").unwrap().left_out();
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        assert!(left_out[0].starts_with("sockets, connect, 1 bytes at MTU 1500 is left out: 16 threads that spin"));
    }

    #[test]
    fn peers_can_be_chosen() {
        let two = plan("vmmc-bench lat --peers tcp,floor,tcp --rounds 5").unwrap();
        assert_eq!(two.peers.iter().map(|p| p.name()).collect::<Vec<_>>(), ["tcp", "floor"]);
        assert_eq!(two.rounds, Rounds::Count(5));
        let usual = plan("vmmc-bench bw").unwrap().peers;
        assert!(usual.len() > 1 && usual.iter().all(|peer| peer.needs().is_none() && !peer.is_extra()));
        assert_eq!(plan("vmmc-bench rate --peers vmmc,vmmc-watched").unwrap().peers.len(), 2);
    }

    #[test]
    fn interfaces_can_have_one_queue() {
        for (line, expected) in [("vmmc-bench versus --quick", false), ("vmmc-bench bw --one-queue", true)] {
            let specs = plan(line).unwrap().specs;
            assert!(!specs.is_empty() && specs.iter().all(|spec| spec.one_queue == expected), "{line}");
        }
    }

    #[test]
    fn thresholds_are_found_by_both_lanes() {
        let plan_of = plan("vmmc-bench thresholds --size 64k,16k --quick").unwrap();
        assert_eq!(plan_of.peers.iter().map(|p| p.name()).collect::<Vec<_>>(), thresholds::PEERS);
        let first: Vec<_> = plan_of.specs[..4].iter().map(|s| (s.bench.name(), s.size, s.millis)).collect();
        assert_eq!(first, [("lat", 65536, 50), ("lat", 16384, 50), ("bw", 65536, 50), ("bw", 16384, 50)]);
        assert!(plan_of.specs.iter().all(|spec| spec.bulk_from == Some(16384)));
        let mut mtus: Vec<_> = plan_of.specs.iter().map(|spec| spec.mtu).collect();
        mtus.dedup();
        assert_eq!(mtus, versus::MTUS);
        for option in ["--peers tcp", "--one-queue", "--bulk-from 8k"] {
            let error = plan(&format!("vmmc-bench thresholds {option}")).err().expect(option).to_string();
            assert!(option.starts_with(error.split(' ').next().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_choice_that_makes_no_sense_is_refused() {
        let error = |line| plan(line).err().expect(line).to_string();
        assert!(error("vmmc-bench lat --peers pigeon").contains("floor, "));
        assert!(error("vmmc-bench loss --peers floor").ends_with("there are: vmmc, vmmc-eager, tcp, tcp-nooff"));
        let Command::Soak(soak) = Cli::parse_from(["vmmc-bench", "soak", "--peer", "tcp"]).command else {
            panic!("a soak")
        };
        assert!(
            soak.plan()
                .err()
                .expect("TCP has no soak")
                .to_string()
                .ends_with("there are: vmmc, vmmc-eager, vmmc-nocrc")
        );
        for line in [
            "vmmc-bench lat --mtu 1279",
            "vmmc-bench lat --mtu 65536",
            "vmmc-bench lat --size 0",
            "vmmc-bench lat --rounds 0",
            "vmmc-bench lat --samples 0",
            "vmmc-bench bw --duration 0",
            "vmmc-bench bw --bulk-from 4095",
            "vmmc-bench thresholds --size 8k",
            "vmmc-bench loss --loss 101",
            "vmmc-bench loss --loss NaN",
            "vmmc-bench incast --senders 0",
            "vmmc-bench rr --connections 0",
            "vmmc-bench connect --parallel 0",
            "vmmc-bench idle --connections 20000",
            "vmmc-bench scale --links -1",
            "vmmc-bench soak --bytes 0",
            "vmmc-bench soak --bytes 1MB --duration 1000",
            "vmmc-bench soak --fault rain=1%",
            "vmmc-bench",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
