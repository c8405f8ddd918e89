//! Labs for tests and benchmarks, which must go away however their owner ends.
//!
//! Returning and panicking are served by `Drop`, SIGINT and SIGTERM by [`down_on_signal`], and
//! SIGKILL by the next process that makes a temporary lab: the owner's process id is part of the
//! lab's name, and labs whose owner is gone are removed.

use std::ops::Deref;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{Pid, test_kill_process};

use crate::{Lab, LabConfig, LabError, interrupt, ip};

/// The names of all temporary labs begin so, followed by the owner's process id and a number.
const PREFIX: &str = "vmmctmp-";

/// The temporary labs of this process.
static LABS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A lab with a name of its own that is removed when this is dropped.
#[derive(Debug)]
pub struct TempLab {
    lab: Lab,
}

impl TempLab {
    /// Makes a lab like `config` says, except for the name.
    ///
    /// # Errors
    ///
    /// Those of [`Lab::up`].
    pub fn new(config: &LabConfig) -> Result<Self, LabError> {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);

        remove_orphans()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", process::id());
        // Before it is made, so that a signal meanwhile finds it.
        labs().push(name.clone());
        let config = LabConfig { name: name.clone(), ..config.clone() };
        match Lab::up(&config) {
            Ok(lab) => Ok(Self { lab }),
            Err(error) => {
                labs().retain(|known| *known != name);
                Err(error)
            }
        }
    }
}

impl Deref for TempLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for TempLab {
    fn drop(&mut self) {
        if let Err(error) = Lab::down(self.name()) {
            // Nobody is left to return it to, and it may be a panic that is dropping us.
            eprintln!("could not remove lab {}: {error}", self.name());
        }
        labs().retain(|name| name != self.name());
    }
}

/// Makes SIGINT, SIGTERM and SIGHUP remove the temporary labs of this process, then end it with
/// exit status 130.
///
/// For the `main` of a program that uses [`TempLab`]. May be called any number of times.
///
/// # Errors
///
/// [`LabError::Signal`] if the program has a handler of the crate `ctrlc` already.
pub fn down_on_signal() -> Result<(), LabError> {
    static INSTALL: Once = Once::new();

    let mut result = Ok(());
    INSTALL.call_once(|| {
        result = ctrlc::try_set_handler(|| {
            interrupt();
            // Holding the list until the end keeps other threads from adding to it.
            for name in labs().iter() {
                if let Err(error) = Lab::down(name) {
                    eprintln!("could not remove lab {name}: {error}");
                }
            }
            process::exit(130);
        });
    });
    result.map_err(LabError::Signal)
}

fn labs() -> MutexGuard<'static, Vec<String>> {
    LABS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary labs of processes that no longer exist.
fn remove_orphans() -> Result<(), LabError> {
    for namespace in ip::netns_names()? {
        // vmmctmp-PID-NUMBER-h1
        let Some((lab, _)) = namespace.rsplit_once('-') else { continue };
        let Some(owner) = lab.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        let Some(owner) = owner.parse().ok().and_then(Pid::from_raw) else { continue };
        if test_kill_process(owner) == Err(rustix::io::Errno::SRCH) {
            // Another process may be doing the same at this moment; what is left of it is nothing
            // that the caller has to know.
            if let Err(LabError::NotOurs(unmarked)) = Lab::down(lab) {
                // Its owner was killed before it could mark it. Nobody else gives such names; the marked ones are removed in
                // this one's turn.
                let _ = ip::ip(&["netns", "delete", &unmarked]);
            }
        }
    }
    Ok(())
}
