//! The `vmmc` command: one module per subcommand, dispatched from here.

mod call;
mod capture;
mod doctor;
mod explain;
mod figures;
mod get;
mod interrupt;
mod lab;
mod node_args;
mod output;
mod pieces;
mod ping;
mod protocol;
mod put;
mod serve;
mod stats;
mod table;
mod top;
mod units;
mod utlb;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use vmmc_cli::{Completions, LOG_HELP, Man, start_log};

/// Virtual memory-mapped communication over Ethernet.
#[derive(Parser)]
#[command(name = "vmmc", version, after_long_help = LOG_HELP)]
struct Cli {
    /// Say on standard error what is being done (as does VMMC_LOG=debug).
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What will work here and why not: kernel, privileges, interfaces, each problem with the command that mends it.
    ///
    /// Looks at the machine and at INTERFACE, or at all of them in short, and changes nothing unless --try is given. The exit
    /// status is 0 if a node can run, 1 if not. Routes, firewalls and the peer are not looked at: `vmmc ping` tries those.
    Doctor(doctor::Args),
    /// Hosts to try it on, without a second machine: network namespaces joined by veth pairs.
    Lab(lab::Args),
    /// Export buffers, say what arrives in them, answer pings and check files that are put.
    Serve(serve::Args),
    /// Measure round trips to a host that runs `vmmc serve`.
    Ping(ping::Args),
    /// Write a file into a buffer that `vmmc serve` exports on another host.
    Put(put::Args),
    /// Fetch what `vmmc serve` exports on another host: a file that it offers, or what has been put there.
    Get(get::Args),
    /// Show what the nodes of this machine have counted, and the state they are in.
    Stats(stats::Args),
    /// Watch a node of this machine: rates, round trips, windows and rings, live in the terminal.
    Top(top::Args),
    /// Show what a running node sends and receives: in lines, in a file, or live in Wireshark.
    Capture(capture::Args),
    /// Try the UTLB on traces of page references: which policy, which rule, how large a budget.
    Utlb(utlb::Args),
    /// Write a script that completes this program's command line in a shell.
    ///
    /// For bash: `vmmc completions bash > /usr/share/bash-completion/completions/vmmc`, and likewise where zsh, fish, elvish or
    /// PowerShell look for theirs.
    Completions(Completions),
    /// Write man pages.
    ///
    /// To read one: `vmmc man | man -l -`. To install them: `vmmc man --dir /usr/local/share/man/man1`.
    Man(Man),
}

/// The exit status where what was asked for makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    if let Err(error) = start_log(level) {
        output::note(format_args!("error: {error}"));
        return ExitCode::from(USAGE);
    }
    let result = match cli.command {
        Command::Doctor(args) => doctor::run(args),
        Command::Lab(args) => lab::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Ping(args) => ping::run(args),
        Command::Put(args) => put::run(args),
        Command::Get(args) => get::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Top(args) => top::run(args),
        Command::Capture(args) => capture::run(args),
        Command::Utlb(args) => utlb::run(args),
        Command::Completions(args) => put_out(&args.script::<Cli>()),
        Command::Man(args) => args.write::<Cli>().map_err(Box::from).and_then(|text| put_out(&text)),
    };
    result.unwrap_or_else(|error| {
        output::note(format_args!("error: {}", with_sources(&*error)));
        if interrupt::asked() { ExitCode::from(interrupt::STATUS) } else { ExitCode::FAILURE }
    })
}

/// Prints what was asked for.
fn put_out(text: &[u8]) -> Result<ExitCode, Box<dyn Error>> {
    output::print(text)?;
    Ok(ExitCode::SUCCESS)
}

/// The error and, after colons, what caused it.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let detail = error.to_string();
        // Some errors say themselves what caused them.
        if !text.ends_with(&detail) {
            text += &format!(": {detail}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The names of all subcommands, as their pages have them: "vmmc-lab-up".
    fn names(command: &clap::Command, path: &str) -> Vec<String> {
        let inner = command.get_subcommands().filter(|c| !c.is_hide_set());
        let inner = inner.flat_map(|c| names(c, &format!("{path}-{}", c.get_name())));
        std::iter::once(path.to_owned()).chain(inner).collect()
    }

    fn output(args: &[&str]) -> String {
        let text = match Cli::try_parse_from(args).expect("arguments that make sense").command {
            Command::Completions(args) => args.script::<Cli>(),
            Command::Man(args) => args.write::<Cli>().expect("pages can be written"),
            _ => unreachable!("only these write"),
        };
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_a_page_and_completions() {
        let names = names(&Cli::command(), "vmmc");
        assert!(names.len() > 10 && names.contains(&"vmmc-lab-up".to_owned()), "{names:?}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("man1");
        let said = output(&["vmmc", "man", "--dir", path.to_str().expect("text")]);
        assert!(said.starts_with(&format!("{} pages", names.len())), "{said}");
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = output(&["vmmc", "completions", shell]);
            for name in &names {
                let last = name.rsplit('-').next().expect("a name");
                assert!(script.contains(last), "{shell}: {name}");
            }
            assert!(script.contains("peer-timeout"), "{shell}");
        }
        for name in &names {
            let page = std::fs::read_to_string(path.join(format!("{name}.1"))).expect(name);
            assert!(page.contains(".SH NAME\n") && page.contains(".SH SYNOPSIS\n"), "{name}: {page}");
        }
        let main = output(&["vmmc", "man"]);
        assert!(main.contains("VMMC_LOG") && main.contains(".SH ENVIRONMENT"), "{main}");
    }

    /// What a reader of `--help` and of the pages sees first is a sentence, and not too long for a list.
    #[test]
    fn every_subcommand_and_option_is_described() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!((5..=120).contains(&about.chars().count()), "{name}: {about:?}");
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() >= 5, "{name}: {} {help:?}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
