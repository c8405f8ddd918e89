//! The thread that stands by.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Spin;
use super::lead::{Drive, Waiting, take};

/// How long nobody may lead.
const TICK: Duration = Duration::from_millis(1);

/// A thread that has led for as many ticks sleeps, as far as one can tell.
const ASLEEP: u32 = 10;

/// Leads when nobody else does, until the stack is closed.
pub(crate) fn stand_by<D: Drive>(drive: Arc<D>) {
    let waiting = drive.waiting();
    let (mut last, mut same, mut since) = (waiting.tenures.load(Ordering::Relaxed), 0, Instant::now());
    while !waiting.stopping.load(Ordering::SeqCst) {
        if drive.failure().is_some() {
            // Nothing comes any more, whoever waits for it.
            std::thread::park();
            continue;
        }
        let now = waiting.tenures.load(Ordering::Relaxed);
        if now == last {
            same += 1;
        } else {
            (last, same, since) = (now, 0, Instant::now());
        }
        let called = waiting.called.swap(false, Ordering::SeqCst) && waiting.has_dependants();
        if waiting.driver.is_due() {
            // This thread may have been roused before the driver could come: for it to lead, while it did so, or by what it then left to the driver.
            let late = since.elapsed();
            if late < TICK {
                std::thread::park_timeout(TICK - late);
                continue;
            }
            waiting.driver.dismiss_present();
        }
        if (called || same > 0) && serve(&*drive, waiting) {
            (last, same, since) = (waiting.tenures.load(Ordering::Relaxed), 0, Instant::now());
            std::thread::park_timeout(TICK);
            continue;
        }
        if same >= ASLEEP {
            // Somebody leads and has for a while: whoever that is rouses this thread when he is done.
            waiting.idle.store(true, Ordering::SeqCst);
            match drive.keep_house() {
                _ if !waiting.is_led() => {}
                Some(next) => std::thread::park_timeout(next),
                None => std::thread::park(),
            }
            waiting.idle.store(false, Ordering::SeqCst);
            same = 0;
        } else {
            std::thread::park_timeout(TICK);
        }
    }
}

/// Leads, if nobody does, until somebody wants to. Returns whether it has.
fn serve(drive: &dyn Drive, waiting: &Waiting) -> bool {
    let Some(mut lead) = waiting.try_lead() else { return false };
    waiting.standing.store(true, Ordering::SeqCst);
    let spin = Spin::new();
    let mut slept = None;
    while !waiting.stopping.load(Ordering::SeqCst) && drive.failure().is_none() {
        if waiting.wants.load(Ordering::SeqCst) {
            break;
        }
        let next = drive.keep_house().map(|next| Instant::now() + next);
        // Nobody is quicker for its spinning when nobody depends on it.
        let allowance = if waiting.has_dependants() { spin.allowance(waiting.most) } else { Duration::ZERO };
        match take(drive, &mut lead, allowance.min(TICK), next, &mut slept) {
            Ok(0) => {}
            Ok(_) => {
                spin.learn(slept.take().is_none_or(|since: Instant| Spin::is_short(since.elapsed())));
                drive.dispatch(&mut lead);
                if lead.woken > 1 && waiting.driver.summon() {
                    break;
                }
            }
            Err(error) => drive.fail(error, &mut lead),
        }
    }
    waiting.standing.store(false, Ordering::SeqCst);
    drop(lead);
    waiting.hand_over(true);
    true
}
