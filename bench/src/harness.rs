//! The parent's side of a measurement: a lab, a worker process on each of its hosts, and the order in which they
//! are told what to do. The last host is the server, the others are clients.

use std::time::{Duration, Instant};

use vmmc_lab::{Lab, LabConfig, TempLab};
use xdp_prog::damage::{Damage, DamageCounters, Shares};

use crate::child::{LOOK, Worker};
use crate::error::BenchError;
use crate::protocol::{Answer, Job, Order};
use crate::spec::{Bench, Endpoint, Outcome, Side, Spec, Topology};

/// What a worker may take beyond the time it measures: opening sockets, a cold cache, a busy machine.
const GRACE: Duration = Duration::from_secs(30);

/// How long after a measurement should have ended the parent looks at the lab's interfaces, and how often from then on.
const LOOK_AT_LINKS: Duration = Duration::from_secs(2);

/// How often a stream is sent at most of which too little arrived.
const TRIES: u32 = 5;

/// The hosts and the workers on them.
pub(crate) struct Harness {
    // Before the lab: a namespace is removed only when nobody is in it.
    workers: Vec<Worker>,
    lab: Option<TempLab>,
    pins: bool,
    /// How many measurements have been begun.
    begun: u64,
}

/// What one measurement has found.
pub(crate) struct Measured {
    /// Of all sides, in the order of their hosts.
    pub(crate) outcomes: Vec<Outcome>,
    /// What the network has done to what each of the hosts sent. Empty where it was left alone.
    pub(crate) wire: Vec<DamageCounters>,
}

/// What to do after a client has told how far it has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for more.
    GoOn,
    /// Kill the server, and start it anew.
    RestartServer,
}

impl Harness {
    /// Makes the lab that `spec` needs, and starts a worker on each of its hosts.
    pub(crate) fn up(spec: &Spec) -> Result<Self, BenchError> {
        let topology = spec.topology();
        let hosts = match topology {
            Topology::Alone => 1,
            Topology::Pair => 2,
            Topology::Bridge(hosts) => hosts,
        };
        // One for the eager lane, and the last for the bulk lane.
        let queues = if spec.one_queue { 1 } else { 2 };
        let config = |hosts| LabConfig { hosts, mtu: spec.mtu, queues, ..LabConfig::default() };
        let lab = match topology {
            Topology::Alone => None,
            Topology::Pair => Some(TempLab::new(&config(2))?),
            // A lab of two has no bridge: then the third host only makes it have one.
            Topology::Bridge(hosts) => Some(TempLab::new(&config(hosts.max(3)))?),
        };
        let mut harness = Self { workers: Vec::new(), lab, pins: spec.bench.pins(), begun: 0 };
        harness.populate(hosts)?;
        Ok(harness)
    }

    fn populate(&mut self, hosts: usize) -> Result<(), BenchError> {
        for place in 0..hosts {
            let worker = self.start(place)?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Ends the workers, and starts others. Where chance has put a process's code and data in memory can make a difference that lasts
    /// as long as the process does: no number of measurements in the same one averages it away.
    pub(crate) fn renew(&mut self) -> Result<(), BenchError> {
        let hosts = self.workers.len();
        self.workers.clear();
        self.populate(hosts)
    }

    /// Starts the worker of this place.
    fn start(&self, place: usize) -> Result<Worker, BenchError> {
        let core = if self.pins {
            let cores = core_affinity::get_core_ids().unwrap_or_default();
            Some(cores.get(place).ok_or(BenchError::Cores { found: cores.len() })?.id)
        } else {
            None
        };
        Worker::start(self.lab.as_ref().map(|lab| lab.host(place + 1)), core)
    }

    /// Has `peer` measured by each of these specs, over one connection. Some may be the same: then it is enough if one of them can tell.
    pub(crate) fn measure(&mut self, peer: &'static str, specs: &[Spec]) -> Result<Vec<Measured>, BenchError> {
        self.measure_watching(peer, specs, |_| Next::GoOn)
    }

    /// The same; `watch` hears of every client's progress, in bytes.
    pub(crate) fn measure_watching(
        &mut self,
        peer: &'static str,
        specs: &[Spec],
        mut watch: impl FnMut(u64) -> Next,
    ) -> Result<Vec<Measured>, BenchError> {
        let mut tries = 0;
        loop {
            let measured = self.measure_once(peer, specs, &mut watch)?;
            let told = |spec: &Spec| {
                let of_it = specs.iter().zip(&measured).filter(|(other, _)| *other == spec);
                of_it.into_iter().any(|(_, measured)| !measured.outcomes.contains(&Outcome::TooShort))
            };
            // If not, somebody else has had a core meanwhile.
            tries += 1;
            if tries == TRIES || specs.iter().all(told) {
                return Ok(measured);
            }
        }
    }

    fn measure_once(
        &mut self,
        peer: &'static str,
        specs: &[Spec],
        mut watch: impl FnMut(u64) -> Next,
    ) -> Result<Vec<Measured>, BenchError> {
        let first = self.begun + 1;
        self.begun += specs.len() as u64;
        let mut all = Vec::new();
        // Until everything has been measured. Where packets are lost each spec has a job of its own.
        let wire = self.damage(&specs[0])?;
        let mut run = Run { peer, specs, first, place: 0, hello: String::new(), served: None };
        for place in 0..specs.len() {
            run.place = place;
            let outcomes = run.measure(self, &mut watch).map_err(|error| self.explain(error))?;
            let wire = wire.iter().map(Damage::counters).collect::<Result<_, _>>()?;
            all.push(Measured { outcomes, wire });
        }
        Ok(all)
    }

    /// The error, or what is known to have caused it.
    fn explain(&self, error: BenchError) -> BenchError {
        if matches!(error, BenchError::Interrupted) {
            return error;
        }
        self.down().unwrap_or(error)
    }

    /// Which interface of the lab is down, if one is.
    fn down(&self) -> Option<BenchError> {
        let lab = self.lab.as_ref()?;
        let status = match Lab::status(lab.name()) {
            Ok(status) => status,
            Err(error) => return Some(error.into()),
        };
        let down = status.hosts.iter().find(|host| host.state == "down")?;
        Some(BenchError::Down { interface: down.host.interface.clone(), host: down.host.number })
    }

    /// Puts the program that loses and damages packets on the bridge's ports, for what each host sends. Not only where
    /// there are packets to lose: the program costs time, and all that is compared shall bear it.
    fn damage(&self, spec: &Spec) -> Result<Vec<Damage>, BenchError> {
        let Some(lab) = self.lab.as_ref().filter(|_| matches!(spec.bench, Bench::Loss | Bench::Soak)) else {
            return Ok(Vec::new());
        };
        let shares = Shares { dropped: spec.faults.drop, damaged: spec.faults.corrupt };
        let attach = |worker: &Worker| Ok(lab.host(worker.host).enter_port(|port| Damage::attach(port, shares))??);
        self.workers.iter().map(attach).collect()
    }

    /// What the workers have written to their standard error since the last call: warnings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.workers.iter().flat_map(Worker::warnings).collect()
    }
}

/// One job: one peer, measured by each of some specs.
struct Run<'a> {
    peer: &'static str,
    specs: &'a [Spec],
    /// Number of the first measurement.
    first: u64,
    /// Which of the specs it is about now.
    place: usize,
    /// What the server said when it became ready.
    hello: String,
    /// What it has found by this spec, once it is done.
    served: Option<Outcome>,
}

impl Run<'_> {
    fn number(&self) -> u64 {
        self.first + self.place as u64
    }

    fn spec(&self) -> &Spec {
        &self.specs[self.place]
    }

    /// Makes one measurement. The first one of a job begins it.
    fn measure(
        &mut self,
        harness: &mut Harness,
        mut watch: impl FnMut(u64) -> Next,
    ) -> Result<Vec<Outcome>, BenchError> {
        // Where there is but one process it is a client, and nobody serves it.
        let clients = (harness.workers.len() - 1).max(1);
        let served = clients < harness.workers.len();
        if self.place == 0 {
            if served {
                self.start_server(harness)?;
            }
            for place in 0..clients {
                let order = self.order(harness, Side::Client, place, clients);
                harness.workers[place].tell(&order)?;
            }
        }
        if self.spec().bench == Bench::Incast {
            for place in 0..clients {
                match self.of_client(harness, place, clients)? {
                    Answer::Ready { .. } => {}
                    answer => return Err(self.odd(Side::Client, &answer)),
                }
            }
        }
        for client in &mut harness.workers[..clients] {
            client.tell(&Order::Go { number: self.number() })?;
        }
        let mut outcomes = Vec::new();
        while outcomes.len() < clients {
            match self.of_client(harness, outcomes.len(), clients)? {
                Answer::Done { outcome, .. } => outcomes.push(outcome),
                Answer::Progress { bytes, .. } if watch(bytes) == Next::RestartServer => {
                    // The kernel removes what a killed process leaves in its namespace.
                    harness.workers.truncate(clients);
                    let server = harness.start(clients)?;
                    harness.workers.push(server);
                    self.start_server(harness)?;
                }
                Answer::Progress { .. } => {}
                answer => return Err(self.odd(Side::Client, &answer)),
            }
        }
        if served {
            let server = &mut harness.workers[clients];
            server.tell(&Order::Stop { number: self.number() })?;
            if self.served.is_none() {
                let answer = server.answer(self.number(), GRACE)?;
                self.take_served(answer)?;
            }
            outcomes.extend(self.served.take());
        }
        Ok(outcomes)
    }

    fn start_server(&mut self, harness: &mut Harness) -> Result<(), BenchError> {
        let place = harness.workers.len() - 1;
        self.hello.clear();
        let order = self.order(harness, Side::Server, place, 0);
        let server = &mut harness.workers[place];
        server.tell(&order)?;
        match server.answer(self.number(), GRACE)? {
            Answer::Ready { hello, .. } => {
                self.hello = hello;
                Ok(())
            }
            Answer::Failed { message, .. } => Err(self.failed(Side::Server, message)),
            Answer::Done { .. } => Err(self.failed(Side::Server, "it was done before the client started".into())),
            answer @ Answer::Progress { .. } => Err(self.odd(Side::Server, &answer)),
        }
    }

    fn order(&self, harness: &Harness, side: Side, place: usize, remote: usize) -> Order {
        let end = |place: usize| -> Endpoint { harness.workers[place.min(harness.workers.len() - 1)].endpoint.clone() };
        Order::Run(Box::new(Job {
            number: self.first,
            peer: self.peer.into(),
            side,
            specs: self.specs.to_vec(),
            local: end(place),
            remote: end(remote),
            hello: self.hello.clone(),
        }))
    }

    /// The next answer of a client, which is no failure. If the server fails first, it knows better why.
    fn of_client(&mut self, harness: &mut Harness, place: usize, clients: usize) -> Result<Answer, BenchError> {
        let patience = GRACE + self.expected();
        let mut look = LOOK_AT_LINKS + self.expected();
        let start = Instant::now();
        loop {
            let answer = harness.workers[place].poll(self.number(), LOOK)?;
            if let Some(server) = harness.workers.get_mut(clients).filter(|_| self.served.is_none()) {
                // A client that has failed may have done so because of the server.
                let wait = if matches!(answer, Some(Answer::Failed { .. })) { LOOK } else { Duration::ZERO };
                if let Some(news) = server.poll(self.number(), wait)? {
                    self.take_served(news)?;
                }
            }
            match answer {
                Some(Answer::Failed { message, .. }) => return Err(self.failed(Side::Client, message)),
                Some(answer) => return Ok(answer),
                // It may be waiting for what can't come.
                None if start.elapsed() >= look => {
                    look += LOOK_AT_LINKS;
                    harness.down().map_or(Ok(()), Err)?;
                }
                None if start.elapsed() < patience => {}
                None => return Err(harness.workers[place].hung(patience)),
            }
        }
    }

    fn take_served(&mut self, answer: Answer) -> Result<(), BenchError> {
        match answer {
            Answer::Done { outcome, .. } => {
                self.served = Some(outcome);
                Ok(())
            }
            Answer::Failed { message, .. } => Err(self.failed(Side::Server, message)),
            answer => Err(self.odd(Side::Server, &answer)),
        }
    }

    fn odd(&self, side: Side, answer: &Answer) -> BenchError {
        self.failed(side, format!("it answered out of turn: {answer:?}"))
    }

    fn failed(&self, side: Side, message: String) -> BenchError {
        failed(self.peer, self.spec(), side, message)
    }

    /// How long a client takes if all goes well, not counting what it opens.
    fn expected(&self) -> Duration {
        // All at once, perhaps: see the peer ucx.
        let of = |spec: &Spec| match spec.bench {
            // Who soaks tells more often how far he has got.
            Bench::Soak => Duration::ZERO,
            // A round trip that takes a millisecond has something wrong with it.
            Bench::Links => (Duration::from_millis(1) + Duration::from_micros(spec.pause))
                .saturating_mul(spec.samples.try_into().unwrap_or(u32::MAX)),
            // Before the connections are there, and again when they are.
            Bench::IdleStreams => spec.duration() * 2,
            _ => spec.duration(),
        };
        self.specs[self.place..].iter().map(of).sum()
    }
}

fn failed(peer: &str, spec: &Spec, side: Side, message: String) -> BenchError {
    let Spec { bench, size, mtu, .. } = *spec;
    BenchError::Failed { peer: peer.into(), bench: bench.name(), size, mtu, side: side.to_string(), message }
}
