//! `vmmc top`: a running node, live in the terminal.
//!
//! ```text
//!   sampler   asks the nodes, in threads of its own
//!   model     the last two snapshots, and which node is shown
//!   view      what that looks like
//! ```

mod model;
mod sampler;
mod view;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use vmmc::monitor::{self, Selector};

use self::model::{INTERVALS, Label, Model};
use self::sampler::{News, Sampler};
use crate::interrupt;
use crate::node_args::parse_seconds;

/// How long to wait for a key before looking for news.
const GLANCE: Duration = Duration::from_millis(50);

/// The arguments of `vmmc top`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which node: its process (4711, or 4711.1 for its second node), interface, address, or socket [default: the first on this machine]
    #[arg(value_name = "NODE")]
    node: Option<Selector>,
    /// Seconds between two looks, 0.1 to 60.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    interval: Duration,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_seconds(text)?;
    if (INTERVALS.0..=INTERVALS.1).contains(&interval) { Ok(interval) } else { Err("0.1 to 60 seconds".to_owned()) }
}

/// What only this can fail with.
#[derive(Debug, thiserror::Error)]
enum TopError {
    #[error(
        "`vmmc top` needs a terminal, to read keys from and to draw on: without one, `vmmc stats` says the same once"
    )]
    NoTerminal,
    #[error("the terminal failed")]
    Terminal(#[source] io::Error),
    #[error("the thread that asks the nodes has ended: this is a bug")]
    Lost,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal.into());
    }
    let node = match &args.node {
        Some(_) => monitor::find(args.node.as_ref())?,
        None => monitor::list()?.swap_remove(0),
    };
    // Ctrl-C comes as a key. Other signals end it as a key would: with the terminal as it was.
    interrupt::catch(|| {})?;
    let mut model = Model::new(Label::of(&node), args.interval);
    let sampler = Sampler::start(node.path, args.interval)?;
    let terminal = Terminal::open().map_err(TopError::Terminal)?;
    let result = watch(terminal, &mut model, &sampler);
    result?;
    Ok(if interrupt::asked() { ExitCode::from(interrupt::STATUS) } else { ExitCode::SUCCESS })
}

/// The terminal, which is as it was before when this is dropped. A panic restores it, too, before it says what it is.
struct Terminal(ratatui::DefaultTerminal);

impl Terminal {
    fn open() -> io::Result<Terminal> {
        ratatui::try_init().map(Terminal).inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn watch(mut terminal: Terminal, model: &mut Model, sampler: &Sampler) -> Result<(), TopError> {
    let mut changed = true;
    while !interrupt::asked() {
        if changed {
            terminal.0.draw(|frame| view::draw(frame, model)).map_err(TopError::Terminal)?;
        }
        changed = false;
        let shown = (model.shown.path.clone(), model.interval);
        while event::poll(if changed { Duration::ZERO } else { GLANCE }).map_err(TopError::Terminal)? {
            match event::read().map_err(TopError::Terminal)? {
                Event::Key(key) if ends(key) => return Ok(()),
                Event::Key(key) => press(model, key),
                _ => {}
            }
            changed = true;
        }
        loop {
            match sampler.news.try_recv() {
                Ok(News::Nodes(nodes)) => model.found(&nodes),
                Ok(News::Sample(path, sample)) => model.sampled(&path, sample),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(TopError::Lost),
            }
            changed = true;
        }
        if shown != (model.shown.path.clone(), model.interval) {
            sampler.watch(model.shown.path.clone(), model.interval);
        }
    }
    Ok(())
}

fn ends(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc) || (key.code == KeyCode::Char('c') && control)
}

fn press(model: &mut Model, key: KeyEvent) {
    if key.kind == KeyEventKind::Release {
        return;
    }
    match key.code {
        KeyCode::Tab | KeyCode::Right | KeyCode::Down => model.step(1),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Up => model.step(-1),
        KeyCode::Char('+') => model.pace(true),
        KeyCode::Char('-') => model.pace(false),
        _ => {}
    }
}
