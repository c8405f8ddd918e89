//! The account: a table for people, JSON for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use serde_json::{Value, json};

use super::judge::{Check, Diagnosis, Verdict};

/// Everything that was found.
pub(super) struct Report {
    pub machine: Vec<Check>,
    pub interfaces: Vec<Diagnosis>,
    /// One interface was asked for, and is shown in full.
    pub detailed: bool,
}

impl Report {
    /// Whether a node can run, on the interface asked for or on any.
    pub(super) fn can_run(&self) -> bool {
        self.interfaces.iter().any(|diagnosis| diagnosis.can_run(&self.machine))
    }

    /// The verdict on everything, in one sentence.
    pub(super) fn sentence(&self) -> String {
        if let ([diagnosis], true) = (&self.interfaces[..], self.detailed) {
            return diagnosis.sentence(&self.machine);
        }
        let able: Vec<&str> =
            self.interfaces.iter().filter(|d| d.can_run(&self.machine)).map(|d| d.name.as_str()).collect();
        match (&self.interfaces[..], &able[..]) {
            ([], _) => "no node can run here: there is no Ethernet interface in this network namespace \
                        (`vmmc lab up` makes some to try it on)"
                .to_owned(),
            (_, []) => "no node can run here as it is".to_owned(),
            _ => format!("a node can run on {}", able.join(", ")),
        }
    }

    /// For people; with colours where standard output is a terminal and nobody has said NO_COLOR.
    pub(super) fn table(&self) -> String {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut text = section("machine", &self.machine, colours);
        for diagnosis in &self.interfaces {
            match self.detailed {
                true => text += &format!("\n{}", section(&diagnosis.name, &diagnosis.checks, colours)),
                false => text += &line(diagnosis, &self.machine, colours),
            }
        }
        // Without a full stop: it may end with a command.
        text += &format!("\n{}\n", bold(&self.sentence(), colours));
        if !self.detailed && !self.interfaces.is_empty() {
            text += "`vmmc doctor INTERFACE` says more about one.\n";
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let interfaces: Vec<Value> = self
            .interfaces
            .iter()
            .map(|diagnosis| {
                json!({
                    "name": diagnosis.name,
                    "can_run": diagnosis.can_run(&self.machine),
                    "forecast": diagnosis.forecast,
                    "verdict": diagnosis.sentence(&self.machine),
                    "checks": checks(&diagnosis.checks),
                })
            })
            .collect();
        let report = json!({
            "can_run": self.can_run(),
            "verdict": self.sentence(),
            "machine": checks(&self.machine),
            "interfaces": interfaces,
        });
        format!("{report:#}\n")
    }
}

fn checks(checks: &[Check]) -> Vec<Value> {
    let value = |check: &Check| {
        json!({
            "name": check.name,
            "verdict": check.verdict.name(),
            "found": check.found,
            "mend": check.mend,
        })
    };
    checks.iter().map(value).collect()
}

fn section(title: &str, checks: &[Check], colours: bool) -> String {
    let mut text = format!("{}\n", bold(title, colours));
    for Check { name, verdict, found, mend } in checks {
        let _ = writeln!(text, "  {}  {name:<14}  {found}", mark(*verdict, colours));
        if let Some(mend) = mend {
            let _ = writeln!(text, "  {:25}-> {mend}", "");
        }
    }
    text
}

/// An interface in short.
fn line(diagnosis: &Diagnosis, machine: &[Check], colours: bool) -> String {
    let worst = diagnosis.checks.iter().map(|check| check.verdict).filter(|v| *v > Verdict::Note).max();
    // Of the machine's problems each has been told once.
    let verdict = if diagnosis.can_run(machine) { worst.unwrap_or(Verdict::Ok) } else { Verdict::Problem };
    format!("\n{}\n  {}  {}\n", bold(&diagnosis.name, colours), mark(verdict, colours), diagnosis.sentence(machine))
}

/// The verdict's name, seven characters wide.
fn mark(verdict: Verdict, colours: bool) -> String {
    let colour = match verdict {
        Verdict::Ok => "32",
        Verdict::Note => "36",
        Verdict::Warning => "33",
        Verdict::Problem => "31",
    };
    paint(&format!("{:7}", verdict.name()), colour, colours)
}

fn bold(text: &str, colours: bool) -> String {
    paint(text, "1", colours)
}

fn paint(text: &str, code: &str, colours: bool) -> String {
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
