//! The part of the demo with stream sockets: four programs of `sockets/examples`, each over VMMC and over kernel TCP.
//!
//! The programs are the same but for the types of their sockets. Each runs for a second or two, in the demo's lab: the server on h2, the client on h1.

use std::path::Path;

use super::{Programs, Receiver, heading, read_rows, value};
use crate::process::{Failure, run};

/// What cargo has to build besides, in the same go: with other packages it would choose other features, and build everything twice.
pub(super) const BUILD: [&str; 4] = ["-p", "vmmc-sockets", "--bins", "--examples"];

const ADDRESS: &str = "10.77.0.2:9000";
/// Stands for the file that is sent.
const FILE: &str = "FILE";

/// One of the programs, and which of its figures is compared.
struct Demo {
    heading: &'static str,
    program: &'static str,
    /// What both sides are told.
    both: &'static [&'static str],
    client: &'static [&'static str],
    what: &'static str,
    metric: &'static str,
    unit: &'static str,
    /// Whether more is better.
    more: bool,
}

const DEMOS: [Demo; 5] = [
    Demo {
        heading: "Stream sockets: messages of 64 bytes, sent back by h2",
        program: "echo",
        both: &[],
        client: &["--messages", "20000"],
        what: "echo, round trip, half take at most",
        metric: "p50",
        unit: "us",
        more: false,
    },
    Demo {
        heading: "The same when nobody sleeps",
        program: "echo",
        both: &["--spin"],
        client: &["--messages", "100000"],
        what: "the same when nobody sleeps",
        metric: "p50",
        unit: "us",
        more: false,
    },
    Demo {
        heading: "A file goes from h1 to h2",
        program: "transfer",
        both: &[],
        client: &[FILE],
        what: "file transfer",
        metric: "bandwidth",
        unit: "Gbit/s",
        more: true,
    },
    Demo {
        heading: "A chat on h2, with 20 bots on h1 that talk to each other",
        program: "chat",
        both: &[],
        client: &["--bots", "20", "--messages", "40", "--pause", "20"],
        what: "chat, from bot to bot, half take at most",
        metric: "p50",
        unit: "us",
        more: false,
    },
    Demo {
        heading: "HTTP: a server made with hyper on h2, a client with 32 connections on h1",
        program: "http",
        both: &[],
        client: &["--connections", "32", "--requests", "1000"],
        what: "HTTP requests in a second",
        metric: "rate",
        unit: "",
        more: true,
    },
];

/// One figure, over both.
pub(super) struct Comparison {
    demo: &'static Demo,
    vmmc: f64,
    tcp: f64,
}

/// Runs all of them.
pub(super) fn compare(programs: &Programs, scratch: &Path, file: &Path) -> Result<Vec<Comparison>, Failure> {
    DEMOS
        .iter()
        .map(|demo| {
            heading(demo.heading);
            let vmmc = measure(programs, scratch, file, demo, "vmmc")?;
            println!();
            let tcp = measure(programs, scratch, file, demo, "tcp")?;
            Ok(Comparison { demo, vmmc, tcp })
        })
        .collect()
}

/// Runs one of them over one kind of sockets.
fn measure(programs: &Programs, scratch: &Path, file: &Path, demo: &Demo, kind: &str) -> Result<f64, Failure> {
    let program = programs.examples.join(demo.program);
    let sockets = |interface| match kind {
        "tcp" => vec!["--tcp"],
        _ => vec!["--interface", interface],
    };
    let mut server = programs.on("h2");
    server.arg(&program).args(["serve", ADDRESS]).args(demo.both).args(sockets("vh2"));
    let server = Receiver::start(&mut server)?;
    let json = scratch.join("sockets.json");
    let mut client = programs.on("h1");
    client.arg(&program).args(["connect", ADDRESS]);
    for argument in demo.client {
        match *argument {
            FILE => client.arg(file),
            argument => client.arg(argument),
        };
    }
    run(client.args(demo.both).args(sockets("vh1")).arg("--json").arg(&json))?;
    drop(server);
    value(&read_rows(&json)?, kind, demo.metric)
        .ok_or_else(|| Failure::Other(format!("{} has not measured its {}", demo.program, demo.metric)))
}

/// The table of all of them.
pub(super) fn print(comparisons: &[Comparison]) {
    println!("\nStream sockets: the same programs, over VMMC and over kernel TCP.\n");
    println!("  {:<42} {:>14} {:>14}", "", "VMMC", "kernel TCP");
    for Comparison { demo, vmmc, tcp } in comparisons {
        let cell = |value: f64| match value {
            1000.0.. => format!("{value:.0} {}", demo.unit),
            _ => format!("{value:.1} {}", demo.unit),
        };
        let faster = if demo.more { vmmc / tcp } else { tcp / vmmc };
        let verdict = match faster {
            1.0.. => format!("{faster:.1} times as fast"),
            _ => format!("kernel TCP is {:.1} times as fast", 1.0 / faster),
        };
        println!("  {:<42} {:>14} {:>14}   {verdict}", demo.what, cell(*vmmc), cell(*tcp));
    }
    println!(
        "\n  (kernel TCP hands the file over in pieces of 64 KiB, which no wire would carry; VMMC sends\n  \
         packets of the interface's MTU: `vmmc lab up --mtu 9000` changes that)"
    );
}
