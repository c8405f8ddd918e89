//! One job as the parent leads it: a peer's connection is opened on the hosts of a [`Harness`], measured as often as is wanted, and closed.
//!
//! ```text
//!   begin ── the server opens ── connect ── the clients open ── connected ── measure, measure ... ── end ── everything closes ── ended
//! ```
//!
//! What takes time lies between two calls, so that the jobs of several harnesses can be opened and closed at the same time.

use std::time::{Duration, Instant};

use xdp_prog::damage::{Damage, DamageCounters};

use crate::child::LOOK;
use crate::error::BenchError;
use crate::harness::Harness;
use crate::protocol::{Answer, Job, Order};
use crate::spec::{Bench, Endpoint, Outcome, Side, Spec};

/// What a worker may take beyond the time it measures: opening sockets, a cold cache, a busy machine.
const GRACE: Duration = Duration::from_secs(30);

/// How long after a measurement should have ended the parent looks at the lab's interfaces, and how often from then on.
const LOOK_AT_LINKS: Duration = Duration::from_secs(2);

/// What one measurement has found.
pub(crate) struct Measured {
    /// Of all sides, in the order of their hosts.
    pub(crate) outcomes: Vec<Outcome>,
    /// What the network has done to what each of the hosts sent. Empty where it was left alone.
    pub(crate) wire: Vec<DamageCounters>,
}

impl Measured {
    /// Whether it says anything: else somebody else has had a core meanwhile.
    pub(crate) fn tells(&self) -> bool {
        !self.outcomes.contains(&Outcome::TooShort)
    }
}

/// What to do after a client has told how far it has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait for more.
    GoOn,
    /// Kill the server, and start it anew.
    RestartServer,
}

/// One job. The harness that is given to its methods is always the same.
pub(crate) struct Run {
    peer: &'static str,
    specs: Vec<Spec>,
    /// Of the measurement that is being made, or will be made first, or of the end.
    number: u64,
    /// By which spec.
    place: usize,
    /// One has been made already.
    measured: bool,
    /// What the server said when it became ready.
    hello: String,
    /// What it has found, once it is done.
    served: Option<Outcome>,
    /// Until everything has been measured. Where packets are lost each spec has a job of its own.
    wire: Vec<Damage>,
}

impl Run {
    /// Has the server open its end for any number of measurements by these specs. Doesn't wait for it.
    pub(crate) fn begin(harness: &mut Harness, peer: &'static str, specs: &[Spec]) -> Result<Run, BenchError> {
        let wire = harness.damage(&specs[0])?;
        let run = Run {
            peer,
            specs: specs.to_vec(),
            number: harness.next_number(),
            place: 0,
            measured: false,
            hello: String::new(),
            served: None,
            wire,
        };
        if is_served(harness) {
            run.tell_server(harness).map_err(|error| run.explain(harness, error))?;
        }
        Ok(run)
    }

    /// Waits for the server, and has the clients open their ends. Doesn't wait for them.
    pub(crate) fn connect(&mut self, harness: &mut Harness) -> Result<(), BenchError> {
        self.connect_all(harness).map_err(|error| self.explain(harness, error))
    }

    fn connect_all(&mut self, harness: &mut Harness) -> Result<(), BenchError> {
        if is_served(harness) {
            self.hello = self.await_server(harness)?;
        }
        for place in 0..clients(harness) {
            let order = self.order(harness, Side::Client, place, clients(harness));
            harness.workers[place].tell(&order)?;
        }
        Ok(())
    }

    /// Waits until all clients are connected.
    pub(crate) fn connected(&mut self, harness: &mut Harness) -> Result<(), BenchError> {
        self.all_connected(harness).map_err(|error| self.explain(harness, error))
    }

    fn all_connected(&mut self, harness: &mut Harness) -> Result<(), BenchError> {
        let clients = clients(harness);
        for place in 0..clients {
            match self.of_client(harness, place)? {
                Answer::Ready { .. } => {}
                answer => return Err(self.odd(Side::Client, &answer)),
            }
        }
        harness.workers[clients..].iter_mut().try_for_each(|server| server.tell(&Order::Connected))
    }

    /// Makes a measurement by the spec in this place. `watch` hears of every client's progress, in bytes.
    pub(crate) fn measure(
        &mut self,
        harness: &mut Harness,
        place: usize,
        mut watch: impl FnMut(u64) -> Next,
    ) -> Result<Measured, BenchError> {
        self.place = place;
        // The first one has the number of the opening.
        if self.measured {
            self.number = harness.next_number();
        }
        self.measured = true;
        let outcomes = self.outcomes(harness, &mut watch).map_err(|error| self.explain(harness, error))?;
        let wire = self.wire.iter().map(Damage::counters).collect::<Result<_, _>>()?;
        Ok(Measured { outcomes, wire })
    }

    fn outcomes(
        &mut self,
        harness: &mut Harness,
        watch: &mut impl FnMut(u64) -> Next,
    ) -> Result<Vec<Outcome>, BenchError> {
        let clients = clients(harness);
        let go = Order::Go { number: self.number, place: self.place };
        if self.specs[self.place].bench.has_ends() {
            for server in &mut harness.workers[clients..] {
                server.tell(&go)?;
            }
            self.await_server(harness)?;
        }
        for client in &mut harness.workers[..clients] {
            client.tell(&go)?;
        }
        let mut outcomes = Vec::new();
        while outcomes.len() < clients {
            match self.of_client(harness, outcomes.len())? {
                Answer::Done { outcome, .. } => outcomes.push(outcome),
                Answer::Progress { bytes, .. } if watch(bytes) == Next::RestartServer => {
                    // The kernel removes what a killed process leaves in its namespace.
                    harness.workers.truncate(clients);
                    let server = harness.start(clients)?;
                    harness.workers.push(server);
                    self.tell_server(harness)?;
                    self.await_server(harness)?;
                }
                Answer::Progress { .. } => {}
                answer => return Err(self.odd(Side::Client, &answer)),
            }
        }
        if let Some(server) = harness.workers.get_mut(clients) {
            server.tell(&Order::Stop { number: self.number })?;
            if self.served.is_none() {
                let answer = server.answer(self.number, GRACE)?;
                self.take_served(answer)?;
            }
            outcomes.extend(self.served.take());
        }
        Ok(outcomes)
    }

    /// Has all sides close what they have opened. Doesn't wait for them.
    pub(crate) fn end(&mut self, harness: &mut Harness) -> Result<(), BenchError> {
        self.number = harness.next_number();
        let order = Order::End { number: self.number };
        let told = harness.workers.iter_mut().try_for_each(|worker| worker.tell(&order));
        told.map_err(|error| self.explain(harness, error))
    }

    /// Waits until all sides have closed everything.
    pub(crate) fn ended(self, harness: &mut Harness) -> Result<(), BenchError> {
        self.all_closed(harness).map_err(|error| self.explain(harness, error))
    }

    fn all_closed(&self, harness: &mut Harness) -> Result<(), BenchError> {
        let clients = clients(harness);
        for (place, worker) in harness.workers.iter_mut().enumerate() {
            let side = if place < clients { Side::Client } else { Side::Server };
            match worker.answer(self.number, GRACE)? {
                Answer::Closed { .. } => {}
                Answer::Failed { message, .. } => return Err(self.failed(side, message)),
                answer => return Err(self.odd(side, &answer)),
            }
        }
        Ok(())
    }

    /// The error, or what is known to have caused it, and of whom it is: all peers' hosts have the same numbers.
    fn explain(&self, harness: &Harness, error: BenchError) -> BenchError {
        match harness.explain(error) {
            error @ (BenchError::Interrupted | BenchError::Failed { .. }) => error,
            error => BenchError::Of { peer: self.peer, error: Box::new(error) },
        }
    }

    fn tell_server(&self, harness: &mut Harness) -> Result<(), BenchError> {
        let place = harness.workers.len() - 1;
        let order = self.order(harness, Side::Server, place, 0);
        harness.workers[place].tell(&order)
    }

    /// Waits until the server is ready for the clients. Returns what they have to know.
    fn await_server(&mut self, harness: &mut Harness) -> Result<String, BenchError> {
        let server = harness.workers.len() - 1;
        match harness.workers[server].answer(self.number, GRACE)? {
            Answer::Ready { hello, .. } => Ok(hello),
            Answer::Failed { message, .. } => Err(self.failed(Side::Server, message)),
            Answer::Done { .. } => Err(self.failed(Side::Server, "it was done before the client started".into())),
            answer => Err(self.odd(Side::Server, &answer)),
        }
    }

    fn order(&self, harness: &Harness, side: Side, place: usize, remote: usize) -> Order {
        let end = |place: usize| -> Endpoint { harness.workers[place.min(harness.workers.len() - 1)].endpoint.clone() };
        Order::Run(Box::new(Job {
            number: self.number,
            peer: self.peer.into(),
            side,
            specs: self.specs.clone(),
            local: end(place),
            remote: end(remote),
            hello: if side == Side::Client { self.hello.clone() } else { String::new() },
        }))
    }

    /// The next answer of a client, which is no failure. If the server fails first, it knows better why.
    fn of_client(&mut self, harness: &mut Harness, place: usize) -> Result<Answer, BenchError> {
        let clients = clients(harness);
        let patience = GRACE + self.expected();
        let mut look = LOOK_AT_LINKS + self.expected();
        let start = Instant::now();
        loop {
            let answer = harness.workers[place].poll(self.number, LOOK)?;
            if let Some(server) = harness.workers.get_mut(clients).filter(|_| self.served.is_none()) {
                // A client that has failed may have done so because of the server.
                let wait = if matches!(answer, Some(Answer::Failed { .. })) { LOOK } else { Duration::ZERO };
                if let Some(news) = server.poll(self.number, wait)? {
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
        failed(self.peer, &self.specs[self.place], side, message)
    }

    /// How long a client takes at most if all goes well, not counting what it opens.
    fn expected(&self) -> Duration {
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
        of(&self.specs[self.place])
    }
}

/// How many of the workers are clients.
fn clients(harness: &Harness) -> usize {
    (harness.workers.len() - 1).max(1)
}

/// Where there is but one process it is a client, and nobody serves it.
fn is_served(harness: &Harness) -> bool {
    clients(harness) < harness.workers.len()
}

fn failed(peer: &str, spec: &Spec, side: Side, message: String) -> BenchError {
    let Spec { bench, size, mtu, .. } = *spec;
    BenchError::Failed { peer: peer.into(), bench: bench.name(), size, mtu, side: side.to_string(), message }
}
