//! Parts of exports that are lent: nobody writes there, whoever tries is told, and what was lent never changes.

use proptest::prelude::*;
use vmmc::engine::{EngineError, ExportOptions, Wanted};
use vmmc::memory::Loan;
use vmmc::port::sim::Conditions;

use super::world::{Host, World, contents, export_options, key, seed};

const LEN: usize = 6000;

#[derive(Clone, Debug)]
enum Step {
    /// Lend a range.
    Lend(usize, usize),
    /// End one of the loans.
    End(usize),
    /// Send from host 0, 1 (the exporter), or write without any engine.
    Send(u8, usize, usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Some reach over several packets, and most meet others.
    let range = || (0..LEN, prop_oneof![1usize..40, 1usize..LEN]).prop_map(|(at, len)| (at, (at + len).min(LEN)));
    let step = prop_oneof![
        3 => range().prop_map(|(start, end)| Step::Lend(start, end.min(start + 700))),
        2 => any::<usize>().prop_map(Step::End),
        6 => (0u8..3, range(), any::<bool>()).prop_map(|(who, (start, end), queued)| Step::Send(who, start, end, queued)),
    ];
    prop::collection::vec(step, 1..30)
}

/// The bytes that a loan has shown from the start.
struct Lent {
    loan: Loan,
    bytes: Vec<u8>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn what_is_lent_never_changes_and_who_writes_there_is_told(seed: u64, steps in steps()) {
        let conditions = Conditions { loss: 0.02, ..Conditions::default() };
        let mut world = World::new(2, seed, conditions);
        let (export, region) = world.export(1, "inbox", LEN, 100);
        let mut import = world.import(0, 1, "inbox").unwrap();
        let own = world.import(1, 1, "inbox").unwrap();
        let (mut lent, mut salt) = (Vec::<Lent>::new(), 0u8);
        for step in steps {
            match step {
                Step::Lend(start, end) => {
                    let loan = world.hosts[1].lend(export, start as u64..end as u64).unwrap();
                    prop_assert_eq!(&loan[..], &contents(&region)[start..end]);
                    let bytes = loan.to_vec();
                    lent.push(Lent { loan, bytes });
                }
                Step::End(which) if !lent.is_empty() => drop(lent.swap_remove(which % lent.len())),
                Step::End(_) => {}
                Step::Send(who, start, end, queued) => {
                    salt = salt.wrapping_add(1).max(1);
                    let data = vec![salt; end - start];
                    let before = contents(&region);
                    let (first, last) = (start as u64, end as u64);
                    let meets = lent.iter().any(|l| l.loan.range().start < last && first < l.loan.range().end);
                    match who {
                        0 => {
                            let mut send = vmmc::engine::Send::new(&data, first);
                            send.queued = queued;
                            let sent = world.submit(0, import, send).and_then(|ticket| world.delivered(0, ticket));
                            prop_assert_eq!(sent.is_err(), meets, "{:?}", sent);
                            if let Err(error) = sent {
                                let told = matches!(&error, EngineError::RefusedLent { name, .. } if name == "inbox");
                                prop_assert!(told, "{}", error);
                                // And all that follows, there or not.
                                let again = world.send(0, import, &[salt], 0, None).and_then(|ticket| world.delivered(0, ticket));
                                prop_assert_eq!(again, Err(error));
                                import = world.import(0, 1, "inbox").unwrap();
                            }
                        }
                        1 => match world.send(1, own, &data, first, None) {
                            Ok(_) => prop_assert!(!meets),
                            Err(error) => {
                                prop_assert!(meets && matches!(error, EngineError::Lent { .. }), "{}", error);
                                prop_assert_eq!(&contents(&region), &before);
                            }
                        },
                        _ => {
                            prop_assert_eq!(region.write(first, &data).is_err(), meets);
                            prop_assert!(!meets || contents(&region) == before);
                        }
                    }
                    // Of a send that was refused, packets may have come that didn't meet a loan; and nothing outside it was touched.
                    for (at, (&old, &new)) in before.iter().zip(&contents(&region)).enumerate() {
                        let inside = (start..end).contains(&at);
                        let good = if inside && !meets { new == salt } else { new == old || inside && new == salt };
                        prop_assert!(good, "byte {}: {} was {}", at, new, old);
                    }
                }
            }
            for Lent { loan, bytes } in &lent {
                prop_assert_eq!(&loan[..], &bytes[..], "{:?}", loan);
            }
        }
    }
}

#[test]
fn redirects_take_what_is_lent_and_nothing_that_is_sent_there() {
    let mut world = World::new(2, seed(), Conditions::default());
    let (export, region) = world.export(1, "inbox", LEN, 100);
    let import = world.import(0, 1, "inbox").unwrap();
    let ticket = world.send(0, import, &[7; 1000], 100, None).unwrap();
    world.delivered(0, ticket).unwrap();
    let Host { engine, port, .. } = &mut world.hosts[1];
    let loan = engine.lend(port, export, 200..300).unwrap();
    let moved = engine.redirect(export, Wanted::Range(0..400), Box::new(vec![0; 400])).unwrap();
    assert_eq!(engine.redirect_state(export, moved), Some((300, None)));
    let waits = engine.redirect(export, Wanted::Range(200..300), Box::new(vec![0; 100])).unwrap();
    // Beside it, in the same words.
    for (at, len) in [(190, 10), (300, 3)] {
        let ticket = world.send(0, import, &vec![8; len], at, None).unwrap();
        world.delivered(0, ticket).unwrap();
    }
    let ticket = world.send(0, import, &[8; 100], 200, None).unwrap();
    let refused = world.delivered(0, ticket).unwrap_err();
    assert!(matches!(refused, EngineError::RefusedLent { .. }), "{refused}");
    let engine = &mut world.hosts[1].engine;
    assert_eq!(engine.redirect_state(export, waits), Some((0, None)));
    assert_eq!((&loan[..], engine.counters().refused_puts), (&[7; 100][..], 1));
    engine.unexport(export);
    assert_eq!(loan[..], [7; 100]);
    drop(loan);
    region.fill(1).unwrap();
}

#[test]
fn what_an_export_has_not_got_is_not_lent_and_no_region_is_exported_twice() {
    let mut world = World::new(1, seed(), Conditions::default());
    let (export, region) = world.export(0, "inbox", 100, 1);
    let Host { engine, port, .. } = &mut world.hosts[0];
    let error = engine.lend(port, export, 50..101).unwrap_err();
    assert!(matches!(error, EngineError::LentOutside { start: 50, end: 101, export: 100, .. }), "{error}");
    let twice = engine.export(export_options("other", key(), 1), region.clone()).unwrap_err();
    assert!(matches!(&twice, EngineError::Exported { name } if name == "other"), "{twice}");
    let loan = engine.lend(port, export, 0..10).unwrap();
    engine.unexport(export);
    assert_eq!(engine.lend(port, export, 0..10).unwrap_err(), EngineError::Dropped);
    // What is lent stays so.
    engine.export(export_options("other", key(), 1), region).unwrap();
    let own = world.import(0, 0, "other").unwrap();
    assert!(world.send(0, own, &[1], 9, None).is_err());
    drop(loan);
    world.send(0, own, &[1], 9, None).unwrap();
}

#[test]
fn an_export_for_one_peer_admits_no_other() {
    let mut world = World::new(3, seed(), Conditions::default());
    let addresses: Vec<_> = world.hosts.iter().map(|host| host.address).collect();
    let options = |name: &str, key, only| ExportOptions { only: Some(only), ..export_options(name, key, 1) };
    let mut elsewhere = addresses[0];
    elsewhere.set_port(7001);
    let public = vmmc::engine::Key::PUBLIC;
    world.export_as(1, options("for 0", public, addresses[0]), 100);
    world.export_as(1, options("with key", key(), addresses[0]), 100);
    world.export_as(1, options("for a port", public, elsewhere), 100);
    let listed =
        ExportOptions { peers: vec![addresses[0].ip(), addresses[2].ip()], ..options("listed", key(), addresses[0]) };
    world.export_as(1, listed, 100);
    world.export_as(1, options("for me", public, addresses[1]), 100);
    let mut admitted = |from: usize, name: &str, key| {
        let id = match world.begin_import(from, 1, name, key) {
            Ok(id) => id,
            Err(EngineError::Denied { .. }) => return false,
            Err(other) => panic!("{other}"),
        };
        world.until("an answer", |w| match w.hosts[from].engine.imported(id) {
            Ok(None) => None,
            Ok(Some(_)) => Some(true),
            Err(EngineError::Denied { .. }) => Some(false),
            Err(other) => panic!("{other}"),
        })
    };
    assert!(admitted(0, "for 0", public) && !admitted(2, "for 0", public) && !admitted(1, "for 0", public));
    assert!(admitted(0, "with key", key()) && !admitted(0, "with key", public) && !admitted(2, "with key", key()));
    assert!(!admitted(0, "for a port", public));
    assert!(admitted(0, "listed", public) && !admitted(2, "listed", key()));
    assert!(admitted(1, "for me", public) && !admitted(0, "for me", public));
}
