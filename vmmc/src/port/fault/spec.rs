//! Which faults, how many of them, and how that is written:
//! `drop=1%,dup=0.1%,reorder=2%,delay=100us,corrupt=0.1%,on=both,seed=42`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which faults a [`FaultPort`](super::FaultPort) makes. Shares are of the packets sent, of those received, or of each, 0 to 1.
///
/// ```
/// use vmmc::port::fault::{Faults, Way};
///
/// let faults: Faults = "drop=1%,reorder=2%,delay=100us,seed=42".parse().unwrap();
/// assert_eq!(faults.drop, 0.01);
/// assert_eq!(faults.to_string(), "drop=1%,reorder=2%,delay=100us,seed=42");
/// let both: Faults = "drop=1%,on=both".parse().unwrap();
/// assert_eq!((faults.on, both.on), (Way::Send, Way::Both));
/// let error = "drop=2".parse::<Faults>().unwrap_err();
/// assert_eq!(error.to_string(), "drop=2: how many packets is a percentage from 0% to 100%, such as drop=1%");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Share of packets that are lost.
    pub drop: f64,
    /// Share of packets that are sent, or arrive, twice.
    pub duplicate: f64,
    /// Share of packets that are held back for `delay`, so that later ones overtake them. When it is 1 all are, none overtakes
    /// another, and the path has merely become longer.
    pub reorder: f64,
    /// For how long, up to 10 s. Default: 100 us.
    pub delay: Duration,
    /// Share of packets of which one bit is turned over, anywhere behind the Ethernet header; in those of the bulk lane, in its own header.
    pub corrupt: f64,
    /// Whether packets meet with faults as they are sent, as they are received, or both; those of the bulk lane never do as they are received. Default: sent.
    pub on: Way,
    /// Chooses the packets: the same seed makes the same decisions about the first, the second, the third packet. Default: 1.
    pub seed: u64,
}

/// Which packets of a port meet with faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Those that are sent.
    #[default]
    Send,
    /// Those that are received.
    Receive,
    /// All. The same shares hold for each way, and which packets are chosen differs.
    Both,
}

impl Way {
    const ALL: [(&'static str, Way); 3] = [("send", Way::Send), ("receive", Way::Receive), ("both", Way::Both)];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Way::ALL.iter().find(|(_, way)| way == self).map_or("", |(name, _)| name))
    }
}

impl Default for Faults {
    /// None.
    fn default() -> Faults {
        Faults { drop: 0.0, duplicate: 0.0, reorder: 0.0, delay: DEFAULT_DELAY, corrupt: 0.0, on: Way::Send, seed: 1 }
    }
}

const DEFAULT_DELAY: Duration = Duration::from_micros(100);
const MAX_DELAY: Duration = Duration::from_secs(10);

/// What is wrong with a description of faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultsError {
    /// Nothing of the form NAME=VALUE.
    #[error("{0:?} is no fault: write NAME=VALUE, separated by commas, such as drop=1%,reorder=2%,delay=100us,seed=42")]
    Form(String),
    /// There is no fault of that name.
    #[error("there is no fault {0:?}: there are drop, dup, reorder, delay, corrupt, on and seed")]
    Unknown(String),
    /// One of them is given more than once.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// Not a share.
    #[error("{name}={value}: how many packets is a percentage from 0% to 100%, such as {name}=1%")]
    Share {
        /// Of which fault.
        name: &'static str,
        /// What was given.
        value: String,
    },
    /// Not a delay.
    #[error("delay={0}: a delay is a whole number of us, ms or s, up to 10s, such as delay=100us")]
    Delay(String),
    /// Neither sending nor receiving.
    #[error("on={0}: faults are made on=send, on=receive or on=both")]
    Way(String),
    /// Not a seed.
    #[error("seed={0}: a seed is a whole number from 0 to 18446744073709551615, such as seed=42")]
    Seed(String),
    /// A delay, and nothing to be delayed.
    #[error("a delay is for packets that are reordered, and none are: add reorder=1%, or reorder=100% to delay all")]
    DelayOfNothing,
}

impl Faults {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`FaultsError::Share`] or [`FaultsError::Delay`].
    pub fn check(&self) -> Result<(), FaultsError> {
        for (name, share) in self.shares() {
            if !(0.0..=1.0).contains(&share) {
                return Err(FaultsError::Share { name, value: format!("{}%", percent(share)) });
            }
        }
        if self.delay > MAX_DELAY {
            return Err(FaultsError::Delay(format!("{:?}", self.delay)));
        }
        Ok(())
    }

    /// Those that packets meet with as they are sent: none, if that is not the way.
    pub(super) fn on_sending(&self) -> Faults {
        self.unless(Way::Receive)
    }

    /// Those that packets meet with as they are received.
    pub(super) fn on_receiving(&self) -> Faults {
        self.unless(Way::Send)
    }

    fn unless(&self, other: Way) -> Faults {
        if self.on == other { Faults { seed: self.seed, ..Faults::default() } } else { *self }
    }

    fn shares(&self) -> [(&'static str, f64); 4] {
        [("drop", self.drop), ("dup", self.duplicate), ("reorder", self.reorder), ("corrupt", self.corrupt)]
    }
}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Faults, FaultsError> {
        const NAMES: [&str; 7] = ["drop", "dup", "reorder", "delay", "corrupt", "on", "seed"];
        let mut faults = Faults::default();
        let mut seen = Vec::new();
        for item in text.split(',') {
            let Some((name, value)) = item.trim().split_once('=') else {
                return Err(FaultsError::Form(item.to_owned()));
            };
            let Some(&name) = NAMES.iter().find(|n| **n == name) else {
                return Err(FaultsError::Unknown(name.to_owned()));
            };
            if seen.contains(&name) {
                return Err(FaultsError::Twice(name));
            }
            seen.push(name);
            match name {
                "drop" => faults.drop = parse_share(name, value)?,
                "dup" => faults.duplicate = parse_share(name, value)?,
                "reorder" => faults.reorder = parse_share(name, value)?,
                "corrupt" => faults.corrupt = parse_share(name, value)?,
                "delay" => faults.delay = parse_delay(value).ok_or_else(|| FaultsError::Delay(value.to_owned()))?,
                "on" => {
                    let way = Way::ALL.iter().find(|(name, _)| *name == value);
                    faults.on = way.map(|(_, way)| *way).ok_or_else(|| FaultsError::Way(value.to_owned()))?;
                }
                _ => faults.seed = value.parse().map_err(|_| FaultsError::Seed(value.to_owned()))?,
            }
        }
        if seen.contains(&"delay") && faults.reorder == 0.0 {
            return Err(FaultsError::DelayOfNothing);
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, share) in self.shares().into_iter().filter(|(_, share)| *share > 0.0) {
            write!(f, "{name}={}%,", percent(share))?;
            if name == "reorder" {
                let micros = self.delay.as_micros();
                match (micros % 1_000_000, micros % 1_000) {
                    (0, _) => write!(f, "delay={}s,", micros / 1_000_000)?,
                    (_, 0) => write!(f, "delay={}ms,", micros / 1_000)?,
                    _ => write!(f, "delay={micros}us,")?,
                }
            }
        }
        if self.on != Way::default() {
            write!(f, "on={},", self.on)?;
        }
        write!(f, "seed={}", self.seed)
    }
}

/// To the millionth part of a percent: what was given as text comes out as that text.
fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

fn parse_share(name: &'static str, value: &str) -> Result<f64, FaultsError> {
    let number = value.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let share = number.filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent / 100.0);
    share.ok_or_else(|| FaultsError::Share { name, value: value.to_owned() })
}

fn parse_delay(value: &str) -> Option<Duration> {
    let (number, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit())?);
    let number = number.parse::<u64>().ok()?;
    let micros = match unit {
        "us" => number,
        "ms" => number.checked_mul(1_000)?,
        "s" => number.checked_mul(1_000_000)?,
        _ => return None,
    };
    Some(Duration::from_micros(micros)).filter(|delay| *delay <= MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_as_it_went_in() {
        for text in [
            "drop=1%,dup=0.1%,reorder=2%,delay=100us,corrupt=0.1%,seed=42",
            "drop=0.000001%,dup=99.99%,reorder=100%,delay=10s,corrupt=7%,seed=18446744073709551615",
            "reorder=33.3%,delay=5ms,seed=0",
            "drop=1%,on=receive,seed=3",
            "dup=1%,on=both,seed=3",
            "seed=1",
        ] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
        let loose: Faults = "corrupt=0.10%, drop=2%".parse().unwrap();
        assert_eq!(loose, Faults { drop: 0.02, corrupt: 0.001, ..Faults::default() });
        assert_eq!("on=send,drop=2%".parse::<Faults>().unwrap().to_string(), "drop=2%,seed=1", "as it is by default");
    }

    #[test]
    fn what_can_t_be_is_explained() {
        for (text, part) in [
            ("", "NAME=VALUE"),
            ("drop", "NAME=VALUE"),
            ("drop=1%,", "NAME=VALUE"),
            ("loss=1%", "there are drop, dup, reorder, delay, corrupt, on and seed"),
            ("drop=1%,drop=2%", "drop is given twice"),
            ("drop=1", "0% to 100%"),
            ("dup=101%", "such as dup=1%"),
            ("dup=-1%", "0% to 100%"),
            ("corrupt=NaN%", "0% to 100%"),
            ("reorder=%", "0% to 100%"),
            ("reorder=1%,delay=100", "us, ms or s"),
            ("reorder=1%,delay=us", "us, ms or s"),
            ("reorder=1%,delay=11s", "up to 10s"),
            ("reorder=1%,delay=18446744073709551615s", "up to 10s"),
            ("drop=1%,on=", "on=receive"),
            ("drop=1%,on=arrival", "on=arrival: faults are made on=send, on=receive or on=both"),
            ("on=send,on=receive", "on is given twice"),
            ("seed=-1", "whole number"),
            ("delay=1ms", "reorder=100%"),
        ] {
            let error = text.parse::<Faults>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for bad in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            assert!(Faults { drop: bad, ..Faults::default() }.check().is_err());
            assert!(Faults { corrupt: bad, ..Faults::default() }.check().is_err());
        }
        assert!(Faults { delay: Duration::MAX, ..Faults::default() }.check().is_err());
    }
}
