//! Where a peer is measured: a lab, and a worker process on each of its hosts. The last host is the server, the others are clients.
//! [`Run`](crate::run::Run) tells them what to do.
//!
//! Each peer has a harness of its own, so that all can be open at the same time and take turns at the cores.

use vmmc_lab::{Lab, LabConfig, TempLab};
use xdp_prog::damage::{Damage, Shares};

use crate::child::Worker;
use crate::error::BenchError;
use crate::spec::{Bench, Spec, Topology};

/// The hosts and the workers on them.
pub(crate) struct Harness {
    // Before the lab: a namespace is removed only when nobody is in it.
    pub(crate) workers: Vec<Worker>,
    lab: Option<TempLab>,
    pins: bool,
    /// How many measurements have been begun, and ended jobs.
    begun: u64,
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

    /// The number of what is begun next.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Starts the worker of this place.
    pub(crate) fn start(&self, place: usize) -> Result<Worker, BenchError> {
        let core = if self.pins {
            let cores = core_affinity::get_core_ids().unwrap_or_default();
            Some(cores.get(place).ok_or(BenchError::Cores { found: cores.len() })?.id)
        } else {
            None
        };
        Worker::start(self.lab.as_ref().map(|lab| lab.host(place + 1)), core)
    }

    /// The error, or what is known to have caused it.
    pub(crate) fn explain(&self, error: BenchError) -> BenchError {
        if matches!(error, BenchError::Interrupted) {
            return error;
        }
        self.down().unwrap_or(error)
    }

    /// Which interface of the lab is down, if one is.
    pub(crate) fn down(&self) -> Option<BenchError> {
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
    pub(crate) fn damage(&self, spec: &Spec) -> Result<Vec<Damage>, BenchError> {
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
