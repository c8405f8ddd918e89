//! What `vmmc top` knows: the nodes there are, and of the one that is shown two snapshots, whose difference is what happens now.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vmmc::Stats;
use vmmc::engine::{ExportInfo, ImportInfo, LinkInfo};
use vmmc::link::RoundTrips;
use vmmc::monitor::{Found, MonitorError};

use crate::figures::plain;

/// The shortest and longest interval.
pub(super) const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// A node that may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) path: PathBuf,
    pub(super) text: String,
    interface: Option<String>,
    local: Option<std::net::SocketAddr>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Model {
    /// The nodes, in the order of their processes.
    pub(super) nodes: Vec<Label>,
    /// The one shown. It may have ended.
    pub(super) shown: Label,
    pub(super) interval: Duration,
    latest: Option<Box<Stats>>,
    before: Option<Box<Stats>>,
    /// What is wrong with the node that is shown.
    pub(super) trouble: Option<String>,
    ended: bool,
}

impl Label {
    pub(super) fn of(node: &Found) -> Label {
        let stats = node.stats.as_ref().ok();
        let text = match stats {
            None => format!("{}.{}", node.pid, node.number),
            Some(stats) => {
                let interface = stats.interface.as_deref().unwrap_or("-");
                format!("{}.{} {} {}", node.pid, node.number, plain(&stats.program, 16), plain(interface, 16))
            }
        };
        let (interface, local) = (stats.and_then(|s| s.interface.clone()), stats.map(|s| s.local));
        Label { path: node.path.clone(), text, interface, local }
    }

    /// Whether it may be another life of the same node.
    fn succeeds(&self, other: &Label) -> bool {
        self.local.is_some() && (&self.interface, self.local) == (&other.interface, other.local)
    }
}

impl Model {
    pub(super) fn new(shown: Label, interval: Duration) -> Model {
        let nodes = vec![shown.clone()];
        Model { nodes, shown, interval, latest: None, before: None, trouble: None, ended: false }
    }

    /// Shows another node, so many places further on.
    pub(super) fn step(&mut self, by: isize) {
        let place = self.nodes.iter().position(|node| node.path == self.shown.path);
        let count = self.nodes.len() as isize;
        let next = match place {
            _ if count == 0 => return,
            Some(place) => (place as isize + by).rem_euclid(count),
            None => 0,
        };
        self.show(self.nodes[next as usize].clone());
    }

    fn show(&mut self, node: Label) {
        if node.path != self.shown.path {
            (self.latest, self.before, self.trouble, self.ended) = (None, None, None, false);
        }
        self.shown = node;
    }

    /// Makes the interval longer or shorter.
    pub(super) fn pace(&mut self, longer: bool) {
        let next = if longer { self.interval * 2 } else { self.interval / 2 };
        self.interval = next.clamp(INTERVALS.0, INTERVALS.1);
    }

    /// These are the nodes there are.
    pub(super) fn found(&mut self, nodes: &[Found]) {
        self.nodes = nodes.iter().map(Label::of).collect();
        if let Some(same) = self.nodes.iter().find(|node| node.path == self.shown.path) {
            // A node that didn't answer before has no name yet.
            if same.local.is_some() {
                self.shown = same.clone();
            }
        } else if self.ended
            && let Some(next) = self.nodes.iter().find(|node| node.succeeds(&self.shown))
        {
            self.show(next.clone());
        }
    }

    /// The node at `path` has answered, or hasn't.
    pub(super) fn sampled(&mut self, path: &Path, sample: Result<Box<Stats>, MonitorError>) {
        if path != self.shown.path {
            return; // it was another that was shown when it was asked
        }
        match sample {
            Ok(stats) => {
                (self.trouble, self.ended) = (None, false);
                self.before = self.latest.replace(stats);
            }
            Err(MonitorError::Gone(_)) => {
                self.ended = true;
                let whom =
                    if self.nodes.iter().any(|node| node.path != self.shown.path) { "; tab shows another" } else { "" };
                self.trouble = Some(format!(
                    "this node has ended. These are its last figures; if it comes back it is shown again{whom}"
                ));
            }
            Err(error) => self.trouble = Some(plain(&error.to_string(), 400)),
        }
    }

    /// The latest snapshot, and what has happened since the one before.
    pub(super) fn now(&self) -> Option<Now<'_>> {
        let latest = self.latest.as_deref()?;
        let same = |before: &&Stats| before.incarnation == latest.incarnation && before.uptime < latest.uptime;
        // A node that has ended does nothing.
        Some(Now { latest, before: self.before.as_deref().filter(same).filter(|_| !self.ended) })
    }
}

/// A snapshot and, if there is one, the one before it.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) latest: &'a Stats,
    before: Option<&'a Stats>,
}

impl<'a> Now<'a> {
    /// How much of something happens in a second; `None` while there is only one snapshot.
    pub(super) fn rate(&self, of: impl Fn(&Stats) -> u64) -> Option<f64> {
        let before = self.before?;
        let span = (self.latest.uptime - before.uptime).as_secs_f64();
        Some(of(self.latest).saturating_sub(of(before)) as f64 / span)
    }

    /// How often it has happened since the snapshot before.
    pub(super) fn added(&self, of: impl Fn(&Stats) -> u64) -> u64 {
        self.before.map_or(0, |before| of(self.latest).saturating_sub(of(before)))
    }

    /// The same of a link, in a second.
    pub(super) fn link_rate(&self, link: &LinkInfo, of: impl Fn(&LinkInfo) -> u64) -> Option<f64> {
        self.rate(|stats| same_link(stats, link).map_or(0, &of))
    }

    /// The round trips of a link since the snapshot before.
    pub(super) fn round_trips(&self, link: &LinkInfo) -> RoundTrips {
        match self.before.and_then(|before| same_link(before, link)) {
            Some(before) => link.round_trips.since(&before.round_trips),
            None => RoundTrips::default(),
        }
    }

    /// The same of an export, in a second.
    pub(super) fn export_rate(&self, export: &ExportInfo, of: impl Fn(&ExportInfo) -> u64) -> Option<f64> {
        self.rate(|stats| stats.exports.iter().find(|e| e.id == export.id).map_or(0, &of))
    }

    /// The same of an import, in a second.
    pub(super) fn import_rate(&self, import: &ImportInfo, of: impl Fn(&ImportInfo) -> u64) -> Option<f64> {
        self.rate(|stats| stats.imports.iter().find(|i| i.id == import.id).map_or(0, &of))
    }
}

/// The link in another snapshot.
fn same_link<'a>(stats: &'a Stats, link: &LinkInfo) -> Option<&'a LinkInfo> {
    stats.links.iter().find(|l| (l.peer, l.peer_incarnation) == (link.peer, link.peer_incarnation))
}
