//! Judgements: what the facts mean for a node. Pure functions, one check each, so that every bad machine can be tested on a good one.

mod bulk;
mod interface;
mod machine;
#[cfg(test)]
mod tests;

pub(super) use interface::interface;
pub(super) use machine::machine;

use super::facts::Capabilities;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// A node can run, but not as well as it could, or it will hear nobody.
    Warning,
    /// No node can run.
    Problem,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What was found, and what it means where that isn't plain.
    pub found: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    pub(super) fn new(
        name: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Check {
        Check { name, verdict, found: found.into(), mend: Some(mend.into()) }
    }

    /// Where no command helps.
    pub(super) fn without_mend(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Check {
        Check { name, verdict, found: found.into(), mend: None }
    }
}

/// What is known of an interface after all checks.
#[derive(Clone, Debug)]
pub(super) struct Diagnosis {
    pub name: String,
    pub checks: Vec<Check>,
    /// How a node would run, as far as that can be foreseen: "native XDP, copy mode, 1 queue".
    pub forecast: Option<String>,
}

impl Diagnosis {
    /// Whether a node can run, on a machine with these checks.
    pub(super) fn can_run(&self, machine: &[Check]) -> bool {
        self.obstacle(machine).is_none()
    }

    /// The first problem.
    fn obstacle<'a>(&'a self, machine: &'a [Check]) -> Option<&'a Check> {
        // That there is no such interface is more telling than any privilege.
        self.checks.iter().chain(machine).find(|check| check.verdict == Verdict::Problem)
    }

    /// The verdict, in one sentence.
    pub(super) fn sentence(&self, machine: &[Check]) -> String {
        let Self { name, forecast, .. } = self;
        if let Some(Check { found, mend, .. }) = self.obstacle(machine) {
            let mend = mend.as_ref().map(|mend| format!(" -> {mend}")).unwrap_or_default();
            return format!("no node can run on {name}: {found}{mend}");
        }
        let warnings: Vec<&str> = self
            .checks
            .iter()
            .chain(machine)
            .filter(|check| check.verdict == Verdict::Warning)
            .map(|check| check.name)
            .collect();
        let but = match warnings[..] {
            [] => String::new(),
            _ => format!(" (but see {})", warnings.join(", ")),
        };
        format!("a node can run on {name}: {}{but}", forecast.as_deref().unwrap_or("how is not known"))
    }
}

/// The capabilities of those needed that are missing.
fn missing(have: &Capabilities) -> Vec<&'static str> {
    let needed = [(have.net_admin, "CAP_NET_ADMIN"), (have.net_raw, "CAP_NET_RAW"), (have.bpf, "CAP_BPF")];
    needed.into_iter().filter(|(has, _)| !has).map(|(_, name)| name).collect()
}

/// A number of bytes for people to read, rounded down.
fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} bytes"),
        1024..0x10_0000 => format!("{} KiB", n >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", n >> 20),
        _ => format!("{:.1} GiB", n as f64 / (1u64 << 30) as f64),
    }
}

fn queues(n: u32) -> String {
    format!("{n} queue{}", if n == 1 { "" } else { "s" })
}
