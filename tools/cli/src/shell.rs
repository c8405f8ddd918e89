//! Shell completions and man pages, made from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

/// Arguments of the subcommand that writes completions.
#[derive(Args, Clone, Debug)]
pub struct Completions {
    /// The shell they are for.
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of the subcommand that writes man pages.
#[derive(Args, Clone, Debug)]
pub struct Man {
    /// Write a page for every subcommand into this directory, which is made if need be [default: the main page, to standard output].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Pages can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write man pages into {}: {source}", path.display())]
pub struct ManError {
    path: PathBuf,
    source: io::Error,
}

impl Completions {
    /// The script.
    pub fn script<C: CommandFactory>(&self) -> Vec<u8> {
        let whole = C::command();
        let name = whole.get_name().to_owned();
        // Some shells would offer what is hidden, too.
        let visible = whole.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).cloned();
        let command = Command::new(name.clone()).version(env!("CARGO_PKG_VERSION"));
        let mut command = command.args(whole.get_arguments().cloned()).subcommands(visible);
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, &name, &mut script);
        if self.shell != Shell::Bash {
            return script;
        }
        // clap_complete 4.6 calls a program with a hyphen by two names there, so that its subcommands are told apart, and then not found.
        let (one, other) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
        String::from_utf8_lossy(&script).replace(&one, &other).into_bytes()
    }
}

impl Man {
    /// Writes the pages into the directory asked for. Returns what belongs on standard output: the main page, or how many
    /// pages there are, and how to read them.
    ///
    /// # Errors
    /// When the directory or a file in it can't be written.
    pub fn write<C: CommandFactory>(&self) -> Result<Vec<u8>, ManError> {
        let mut command = C::command().disable_help_subcommand(true);
        command.build();
        let Some(directory) = &self.dir else { return Ok(page(&command)) };
        let count = pages(&command, directory).map_err(|source| ManError { path: directory.clone(), source })?;
        let main = directory.join(format!("{}.1", command.get_name()));
        Ok(format!("{count} pages in {}: man -l {}\n", directory.display(), main.display()).into_bytes())
    }
}

/// Writes the page of a command and those of its subcommands. Returns how many.
fn pages(command: &Command, directory: &Path) -> io::Result<usize> {
    fs::create_dir_all(directory)?;
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(directory.join(format!("{name}.1")), page(command))?;
    let visible = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    visible.map(|subcommand| pages(subcommand, directory)).try_fold(1, |sum, count| Ok(sum + count?))
}

fn page(command: &Command) -> Vec<u8> {
    let version = command.get_version().unwrap_or(env!("CARGO_PKG_VERSION"));
    let page = clap_mangen::Man::new(command.clone()).source(format!("VMMC {version}")).manual("VMMC");
    let mut text = Vec::new();
    // A vector takes everything.
    let _ = page.render(&mut text);
    let text = String::from_utf8_lossy(&text);
    // What stands below the options is about the log, and has a section of its own. That there is no date has to be said: what comes next
    // would be taken for it.
    text.replace(".SH EXTRA\n", ".SH ENVIRONMENT\n").replacen(" 1  \"VMMC", " 1 \"\" \"VMMC", 1).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Stdio;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(name = "two-words", version)]
    enum Cli {
        Measure {
            #[arg(long)]
            rounds: usize,
        },
        #[command(hide = true)]
        Worker,
    }

    /// What bash makes of the last of these words.
    fn completed(words: &[&str]) -> String {
        let script = Completions { shell: Shell::Bash }.script::<Cli>();
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let ask = format!(
            "\nCOMP_WORDS=({}); COMP_CWORD={}; _two__words two-words '{last}' '{before}'; echo \"${{COMPREPLY[@]}}\"\n",
            words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
            words.len() - 1
        );
        let mut bash = std::process::Command::new("bash");
        bash.arg("--norc").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bash = bash.spawn().expect("bash can be started");
        let input = [script, ask.into_bytes()].concat();
        bash.stdin.take().expect("it is piped").write_all(&input).expect("it reads all");
        let output = bash.wait_with_output().expect("it was started");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    #[test]
    fn a_program_with_a_hyphen_is_completed_to_the_end() {
        assert_eq!(completed(&["two-words", "mea"]), "measure");
        assert_eq!(completed(&["two-words", "measure", "--r"]), "--rounds");
        assert_eq!(completed(&["two-words", "help", "m"]), "measure");
    }

    #[test]
    fn a_page_says_what_it_belongs_to_in_the_right_places() {
        let page = String::from_utf8(page(&Cli::command())).expect("text");
        let title = page.lines().find(|line| line.starts_with(".TH")).expect("it has a title");
        assert_eq!(title, format!(".TH two-words 1 \"\" \"VMMC {}\" VMMC", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn what_is_hidden_is_offered_by_no_shell() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let script = String::from_utf8(Completions { shell }.script::<Cli>()).expect("text");
            assert!(script.contains("measure") && script.contains("two-words"), "{shell}");
            assert!(!script.contains("worker"), "{shell}: {script}");
        }
    }
}
