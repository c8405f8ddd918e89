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
        let mut command = C::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        script
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
    // What stands below the options is about the log, and has a section of its own.
    String::from_utf8_lossy(&text).replace(".SH EXTRA\n", ".SH ENVIRONMENT\n").into_bytes()
}
