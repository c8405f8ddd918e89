//! From which size on a send takes the bulk lane: that depends on how long packets are, and on the machine.
//!
//! A [`Thresholds`] is a table by MTU. It comes with the library, or from a file that `vmmc-bench thresholds` has written, in this form:
//!
//! ```text
//!   # What stands behind a # is for people.
//!   # MTU   from, in bytes
//!   1500    never
//!   9000    262144
//!   65535   65536
//! ```
//!
//! A line holds from its MTU up to the next line's; below the first one's MTU nothing takes the lane. MTUs are what a link has agreed on, bytes of IP packet,
//! 1280 to 65535, in ascending order; there are at most [`MOST_STEPS`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::wire::{MAX_MTU, MIN_MTU};

/// The least that a threshold may be set to, bytes: shorter sends are over before the receiver could have answered, whatever the machine.
pub const LEAST_THRESHOLD: usize = 4096;

/// The most lines that a table has.
pub const MOST_STEPS: usize = 32;

/// From an MTU on, sends of so many bytes and more; `None` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    mtu: usize,
    from: Option<usize>,
}

/// From which size on sends take the bulk lane, by MTU. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// By MTU, ascending. `None` is an empty one.
    steps: Option<Arc<[Step]>>,
}

/// Measured by `vmmc-bench thresholds` on a veth pair, where the kernel copies. At an MTU of 1500 a packet of several fragments costs it more than copying the payload into one costs the sender.
const BUILT_IN: [(usize, Option<usize>); 3] = [(MIN_MTU, None), (8000, Some(512 << 10)), (65535, Some(256 << 10))];

impl Thresholds {
    /// No send ever does.
    pub const NONE: Thresholds = Thresholds { steps: None };

    /// At an MTU of `mtu` bytes and more, sends of `from` bytes and more.
    pub fn from(from: usize, mtu: usize) -> Thresholds {
        Thresholds::of(&[(mtu, Some(from))])
    }

    /// A table of MTUs, ascending, and the least sends that take the lane from there on; `None` is none.
    pub fn of(steps: &[(usize, Option<usize>)]) -> Thresholds {
        Thresholds { steps: Some(steps.iter().map(|&(mtu, from)| Step { mtu, from }).collect()) }
    }

    /// The least sends that take the lane at an MTU, bytes; `None` if none does.
    pub fn at(&self, mtu: usize) -> Option<usize> {
        let steps = self.steps.as_deref().unwrap_or_default();
        steps.iter().take_while(|step| step.mtu <= mtu).last()?.from
    }

    /// The least MTU at which any send takes the lane.
    pub fn least_mtu(&self) -> Option<usize> {
        let steps = self.steps.as_deref().unwrap_or_default();
        steps.iter().find(|step| step.from.is_some()).map(|step| step.mtu)
    }
}

/// The table that comes with the library.
impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds::of(&BUILT_IN)
    }
}

/// What is wrong with a table's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ThresholdsError {
    /// Which line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl FromStr for Thresholds {
    type Err = ThresholdsError;

    fn from_str(text: &str) -> Result<Thresholds, ThresholdsError> {
        let mut steps: Vec<(usize, Option<usize>)> = Vec::new();
        for (text, line) in text.lines().zip(1..) {
            let wrong = |what: String| ThresholdsError { line, what };
            let words = text.split('#').next().unwrap_or_default();
            let (mtu, from) = match words.split_whitespace().collect::<Vec<_>>()[..] {
                [] => continue,
                [mtu, from] => (mtu, from),
                ref words => {
                    let shown: String = words.join(" ").chars().take(40).collect();
                    return Err(wrong(format!(
                        "{shown:?} isn't an MTU and a size, such as `9000 262144` or `1500 never`"
                    )));
                }
            };
            let range = MIN_MTU..=MAX_MTU;
            let Some(mtu) = mtu.parse().ok().filter(|mtu| range.contains(mtu)) else {
                return Err(wrong(format!("{:?} is no MTU: these are {MIN_MTU} to {MAX_MTU} bytes", cut(mtu))));
            };
            let from = match from {
                "never" => None,
                from => match from.parse().ok().filter(|&from| from >= LEAST_THRESHOLD) {
                    Some(from) => Some(from),
                    None => {
                        let expected = format!("bytes, {LEAST_THRESHOLD} or more, or `never`");
                        return Err(wrong(format!("{:?} is no size: that is a number of {expected}", cut(from))));
                    }
                },
            };
            if let Some(&(before, _)) = steps.last()
                && before >= mtu
            {
                return Err(wrong(format!("the MTU {mtu} comes after {before}, and they must ascend")));
            }
            if steps.len() == MOST_STEPS {
                return Err(wrong(format!("there are more than {MOST_STEPS} MTUs")));
            }
            steps.push((mtu, from));
        }
        if steps.is_empty() {
            let what = format!("there is no MTU at all; `{MIN_MTU} never` says that nothing takes the lane");
            return Err(ThresholdsError { line: text.lines().count().max(1), what });
        }
        Ok(Thresholds::of(&steps))
    }
}

/// A word that may be of any length.
fn cut(word: &str) -> String {
    word.chars().take(20).collect()
}

/// As the text that it can be parsed from.
impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { mtu, from } in self.steps.as_deref().unwrap_or_default() {
            match from {
                Some(from) => writeln!(f, "{mtu:<7} {from}")?,
                None => writeln!(f, "{mtu:<7} never")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_holds_up_to_the_next_ones_mtu() {
        let table: Thresholds = "# by hand\n\n1500 never # too small\n 9000\t262144\n65535 65536\n".parse().unwrap();
        for (mtu, from) in [
            (1280, None),
            (1500, None),
            (8999, None),
            (9000, Some(262_144)),
            (65534, Some(262_144)),
            (65535, Some(65536)),
        ] {
            assert_eq!(table.at(mtu), from, "{mtu}");
        }
        assert_eq!(Thresholds::NONE.at(65535), None);
        assert_eq!(Thresholds::from(5000, 1280).at(1280), Some(5000));
        let built_in = Thresholds::default();
        assert_eq!(built_in.to_string().parse::<Thresholds>().unwrap(), built_in);
        assert!(built_in.at(1500).is_none() && built_in.at(9000).is_some());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, part) in [
            ("", 1, "no MTU at all"),
            ("# nothing\n\n", 2, "no MTU at all"),
            ("1500 never\n9000", 2, "isn't an MTU and a size"),
            ("1500 never never", 1, "\"1500 never never\""),
            ("\n1279 never", 2, "1280 to 65535"),
            ("65536 never", 1, "\"65536\" is no MTU"),
            ("-1 never", 1, "is no MTU"),
            ("9000 4095", 1, "4096 or more, or `never`"),
            ("9000 64k", 1, "\"64k\" is no size"),
            ("9000 99999999999999999999999", 1, "is no size"),
            ("9000 8192\n9000 never", 2, "9000 comes after 9000"),
            ("9000 8192\n1500 never", 2, "must ascend"),
        ] {
            let error = text.parse::<Thresholds>().unwrap_err();
            assert!(error.line == line && error.what.contains(part), "{text:?}: {error}");
        }
        let many: String = (0..=MOST_STEPS).map(|i| format!("{} never\n", 2000 + i)).collect();
        assert_eq!(many.parse::<Thresholds>().unwrap_err().line, MOST_STEPS + 1);
        let long = format!("{} 1", "9".repeat(1 << 20)).parse::<Thresholds>().unwrap_err();
        assert!(long.to_string().len() < 100);
    }

    /// Lines that are nearly right.
    fn line() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("never".to_owned()),
            (1200usize..70_000).prop_map(|n| n.to_string()),
            "[ #a-z0-9.\\-]{0,8}"
        ];
        proptest::collection::vec(word, 0..4).prop_map(|words| words.join(" "))
    }

    proptest! {
        #[test]
        fn any_text_is_a_table_or_refused(text in prop_oneof![any::<String>(), proptest::collection::vec(line(), 0..40).prop_map(|lines| lines.join("\n"))]) {
            match text.parse::<Thresholds>() {
                Ok(table) => prop_assert_eq!(table.to_string().parse::<Thresholds>(), Ok(table)),
                Err(error) => prop_assert!((1..=text.lines().count().max(1)).contains(&error.line)),
            }
        }

        #[test]
        fn every_table_survives_its_text(
            steps in proptest::collection::btree_map(MIN_MTU..=MAX_MTU, proptest::option::of(LEAST_THRESHOLD..1 << 40), 1..MOST_STEPS),
            mtu in MIN_MTU..=MAX_MTU,
        ) {
            let steps: Vec<_> = steps.into_iter().collect();
            let table: Thresholds = Thresholds::of(&steps).to_string().parse().unwrap();
            let expected = steps.iter().rev().find(|step| step.0 <= mtu).and_then(|step| step.1);
            prop_assert_eq!(table.at(mtu), expected);
        }
    }
}
