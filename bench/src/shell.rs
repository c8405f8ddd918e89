//! Completions and man pages on standard output.

use std::io::{self, Write};
use std::process::ExitCode;

use vmmc_cli::ManError;

/// Prints what has been made, or why it couldn't be.
pub(crate) fn put_out(text: Result<Vec<u8>, ManError>) -> ExitCode {
    match text {
        Ok(text) => {
            // A reader that has seen enough is no error.
            let _ = io::stdout().lock().write_all(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vmmc-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::{Cli, Command};

    #[test]
    fn every_subcommand_has_a_page_and_completions() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let arguments = ["vmmc-bench", "man", "--dir", directory.path().to_str().expect("text")];
        let Command::Man(man) = Cli::parse_from(arguments).command else { panic!("man is man") };
        man.write::<Cli>().expect("pages can be written");
        let Command::Completions(bash) = Cli::parse_from(["vmmc-bench", "completions", "bash"]).command else {
            panic!("completions are completions")
        };
        let script = String::from_utf8(bash.script::<Cli>()).expect("text");
        for subcommand in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = subcommand.get_name();
            assert!(directory.path().join(format!("vmmc-bench-{name}.1")).exists(), "{name}");
            assert!(script.contains(name), "{name}");
        }
    }
}
