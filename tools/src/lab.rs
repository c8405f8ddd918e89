//! `vmmc lab`: makes, shows, uses and removes labs.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Subcommand;
use vmmc_lab::{Change, Host, HostStatus, Lab, LabConfig, LabError};

use crate::interrupt;
use crate::output::print;

/// The arguments of `vmmc lab`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The lab's name, the first part of its namespaces' names.
    #[arg(long, global = true, default_value = "vmmc", value_name = "LAB")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a lab.
    ///
    /// One that is there already and just the same is left alone. One that differs, or is damaged, is removed first, with the
    /// processes that run in it.
    Up {
        /// How many hosts, 2 to 64. Two are joined by a veth pair, more by a bridge.
        #[arg(long, default_value_t = 2, value_name = "N")]
        hosts: usize,
        /// The interfaces' MTU in bytes, 1280 to 65535.
        #[arg(long, default_value_t = 1500, value_name = "M")]
        mtu: u32,
        /// The interfaces' queues, 1 to 64.
        #[arg(long, default_value_t = 2, value_name = "Q")]
        queues: u32,
    },
    /// Remove a lab and end the processes in it.
    ///
    /// That there is none is said, and is no error: the exit status is 0.
    Down,
    /// Show a lab: interfaces, addresses, XDP programs, processes.
    Status,
    /// Run a command on a host.
    ///
    /// It becomes the command: exit status, signals and terminal are the command's.
    Exec {
        /// The host: h1, or just 1.
        host: String,
        /// The command and its arguments.
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
}

/// Runs `vmmc lab`.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let name = args.name;
    match args.action {
        Action::Up { hosts, mtu, queues } => {
            let config = LabConfig { name, hosts, mtu, queues };
            // A lab that is half there would be in the way of the next.
            interrupt::catch(vmmc_lab::interrupt)?;
            let lab = Lab::up(&config)?;
            if interrupt::asked() && *lab.change() != Change::Unchanged {
                Lab::down(&config.name)?;
                return Err("interrupted: the lab is removed again".into());
            }
            print(welcome(&lab, &config))?;
        }
        Action::Down => {
            // What is half gone would be in the way of the next. The second Ctrl-C ends it nevertheless.
            interrupt::catch(|| {})?;
            let text = match Lab::down(&name)? {
                true => format!("Lab {name} is removed.\n"),
                false => format!("There was no lab {name}.\n"),
            };
            print(&text)?;
        }
        Action::Status => return status(&name),
        Action::Exec { host, command } => {
            let lab = Lab::open(&name)?;
            let mut run = lab.find(&host)?.command(&command[0]);
            run.args(&command[1..]);
            // Becoming the command passes on its exit status, signals and terminal.
            return Err(Box::new(LabError::Spawn {
                source: run.exec(),
                command: command[0].to_string_lossy().into_owned(),
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What somebody who has just made a lab wants to know.
fn welcome(lab: &Lab, config: &LabConfig) -> String {
    let how = match lab.change() {
        Change::Created => "is up".into(),
        Change::Unchanged => "was up already".into(),
        Change::Rebuilt(difference) => format!("was made anew ({difference})"),
    };
    let joined = match lab.hosts().len() {
        2 => "joined by a veth pair",
        _ => "joined by a bridge",
    };
    let LabConfig { name, hosts, mtu, queues, .. } = config;
    let mut rows = vec![["HOST", "NAMESPACE", "INTERFACE", "ADDRESSES"].map(String::from)];
    rows.extend(lab.hosts().iter().map(|host| {
        let Host { name, namespace, interface, .. } = host.clone();
        [name, namespace, interface, addresses(host)]
    }));

    // So that the examples can be pasted as they are.
    let sudo = if env::var_os("SUDO_USER").is_some() { "sudo " } else { "" };
    let program = env::args().next().unwrap_or_else(|| "vmmc".into());
    let option = match name.as_str() {
        "vmmc" => String::new(),
        name => format!(" --name {name}"),
    };
    let command = |rest: &str| format!("  {sudo}{program} lab{option} {rest}\n");
    format!(
        "Lab {name} {how}: {hosts} hosts, {joined}, MTU {mtu}, {queues} queues.\n\n\
         {}\n\
         A node on h2, round trips to it from h1, a shell on h1, how it all is, and the end:\n\n{}{}{}{}{}",
        table(&rows),
        command(&format!("exec h2 -- {program} serve --interface vh2")),
        command(&format!("exec h1 -- {program} ping 10.77.0.2 --interface vh1")),
        command("exec h1 -- bash"),
        command("status"),
        command("down"),
    )
}

fn status(name: &str) -> Result<ExitCode, Box<dyn Error>> {
    let status = Lab::status(name)?;
    let header = ["HOST", "NAMESPACE", "INTERFACE", "ADDRESSES", "MTU", "QUEUES", "STATE", "XDP", "PROCESSES"];
    let mut rows = vec![header.map(String::from)];
    rows.extend(status.hosts.iter().map(status_row));
    let mut text = table(&rows);
    if let Some(switch) = &status.switch {
        text += &format!("\nThe hosts are joined by the bridge in {switch}.\n");
    }
    if let Some(problem) = &status.problem {
        text += &format!("\nThe lab is damaged ({problem}): `vmmc lab up --name {name}` makes it anew.\n");
    }
    print(&text)?;
    Ok(match status.problem {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

fn status_row(status: &HostStatus) -> [String; 9] {
    let host = &status.host;
    let xdp = status.xdp.as_ref().map(|xdp| {
        let name = xdp.name.as_deref().unwrap_or("unnamed");
        format!("{name} (id {}, {})", xdp.id, xdp.mode)
    });
    let processes: Vec<_> =
        status.processes.iter().map(|process| format!("{} {}", process.pid, process.name)).collect();
    let or_dash = |text: String| if text.is_empty() { "-".into() } else { text };
    [
        host.name.clone(),
        host.namespace.clone(),
        host.interface.clone(),
        addresses(host),
        status.mtu.to_string(),
        status.queues.to_string(),
        status.state.into(),
        or_dash(xdp.unwrap_or_default()),
        or_dash(processes.join(", ")),
    ]
}

fn addresses(host: &Host) -> String {
    format!("{} {}", host.address, host.address6)
}

/// Lines of columns, each as wide as its widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text += &format!("  {}\n", line.trim_end());
    }
    text
}
