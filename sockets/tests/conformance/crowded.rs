//! All cases at the same time between the same two hosts: what one does must not be another's concern.

use std::sync::Mutex;

use crate::common::{PATIENCE, watched_for};
use crate::world::{World, seeded};

const THREADS: usize = 6;

fn all_at_once<W: World>() {
    let world = seeded::<W>();
    let mut cases = crate::cases::<W>();
    fastrand::shuffle(&mut cases);
    let cases = Mutex::new(cases);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (world, cases) = (&world, &cases);
            let work = move || {
                // The lock isn't held while a case runs.
                while let Some((name, case)) = next(cases) {
                    println!("thread {thread} begins {name}");
                    case(world);
                    println!("thread {thread} is done with {name}");
                }
            };
            scope.spawn(work);
        }
    });
}

fn next<T>(list: &Mutex<Vec<T>>) -> Option<T> {
    list.lock().unwrap().pop()
}

#[test]
fn tcp() {
    watched_for(3 * PATIENCE, "crowded::tcp", all_at_once::<crate::world::Tcp>);
}

#[test]
fn lossy() {
    watched_for(3 * PATIENCE, "crowded::lossy", all_at_once::<crate::world::Lossy>);
}

#[test]
fn veth() {
    watched_for(3 * PATIENCE, "crowded::veth", all_at_once::<crate::world::Veth>);
}
