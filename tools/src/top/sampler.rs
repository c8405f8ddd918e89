//! Asks the nodes, in threads of its own: one that doesn't answer must not hold up the keyboard.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use vmmc::Stats;
use vmmc::monitor::{self, Found, MonitorError};

/// How often to look for nodes.
const LOOK: Duration = Duration::from_secs(2);

/// What has come.
pub(super) enum News {
    /// The nodes there are.
    Nodes(Vec<Found>),
    /// An answer of the node that is watched, or why there is none.
    Sample(PathBuf, Result<Box<Stats>, MonitorError>),
}

/// The threads. They end with the program, or when nobody listens to them any more.
pub(super) struct Sampler {
    orders: Sender<(PathBuf, Duration)>,
    pub(super) news: Receiver<News>,
}

impl Sampler {
    /// Begins with this node.
    pub(super) fn start(path: PathBuf, interval: Duration) -> std::io::Result<Sampler> {
        let (orders, ordered) = channel();
        let (found, news) = channel();
        let sampled = found.clone();
        thread::Builder::new().name("look".to_owned()).spawn(move || look(&found))?;
        thread::Builder::new().name("sample".to_owned()).spawn(move || sample(&ordered, &sampled, path, interval))?;
        Ok(Sampler { orders, news })
    }

    /// From now on, this node at this interval, beginning at once.
    pub(super) fn watch(&self, path: PathBuf, interval: Duration) {
        // If the thread has gone, its channel says so.
        let _ = self.orders.send((path, interval));
    }
}

fn look(news: &Sender<News>) {
    // That there are none is no error here: one may come.
    while news.send(News::Nodes(monitor::list().unwrap_or_default())).is_ok() {
        thread::sleep(LOOK);
    }
}

fn sample(orders: &Receiver<(PathBuf, Duration)>, news: &Sender<News>, mut path: PathBuf, mut interval: Duration) {
    let mut due = Instant::now();
    loop {
        match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(order) => {
                (path, interval) = order;
                due = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {
                if news.send(News::Sample(path.clone(), monitor::ask_all(&path).map(Box::new))).is_err() {
                    return;
                }
                // Not as fast as possible when an answer took longer than the interval.
                due = (due + interval).max(Instant::now());
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
