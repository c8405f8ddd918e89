//! What the parent and a worker say to each other: one JSON object a line, orders on the worker's
//! standard input, answers on its standard output.
//!
//! A job is one peer, measured any number of times over one connection. It goes: `Run` to the server, `Ready` back (with
//! whatever the client has to know, a port number for example), `Run` to the client, `Ready` back, `Connected` to the server. Then, for
//! each measurement, `Go` to the server, `Ready` back, `Go` to the client, `Done` back, `Stop` to the server, `Done` back; between two of them both sleep, so that the
//! cores are free for other peers that are open, too. At last `End` to both, `Closed` back. Measurements are numbered, and so is the
//! end, so that all answers say what they are about. The worker ends when its standard input does.

use serde::{Deserialize, Serialize};

use crate::spec::{Endpoint, Outcome, Side, Spec};

/// What the parent tells a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub(crate) enum Order {
    /// Open a connection, and wait.
    Run(Box<Job>),
    /// All clients are connected: to the server, which can go to sleep.
    Connected,
    /// Make the measurement of this number, by the spec in this place of the job's. Everybody is ready.
    Go { number: u64, place: usize },
    /// The measurement of this number needs its server no more. Ignored when it is already done.
    Stop { number: u64 },
    /// Close everything: the job is over.
    End { number: u64 },
}

/// One side of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Of the first measurement, and of its being opened. They count up from 1, over all jobs of a lab.
    pub(crate) number: u64,
    /// Name of the peer, as in the report.
    pub(crate) peer: String,
    /// Which end to play.
    pub(crate) side: Side,
    /// What to measure. Never empty; several only of a bench that shares a connection.
    pub(crate) specs: Vec<Spec>,
    /// The worker's own host.
    pub(crate) local: Endpoint,
    /// The other one.
    pub(crate) remote: Endpoint,
    /// What the server said when it became ready. Empty for the server.
    pub(crate) hello: String,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The server listens, and the client is to be told `hello`. Or a client waits for `Go`.
    Ready { number: u64, hello: String },
    /// This side has got so far, in bytes.
    Progress { number: u64, bytes: u64 },
    /// This side is done.
    Done { number: u64, outcome: Outcome },
    /// This side could not do it.
    Failed { number: u64, message: String },
    /// Nothing of the job is left.
    Closed { number: u64 },
}

impl Answer {
    /// What it is about.
    pub(crate) fn number(&self) -> u64 {
        match *self {
            Answer::Ready { number, .. }
            | Answer::Progress { number, .. }
            | Answer::Done { number, .. }
            | Answer::Failed { number, .. }
            | Answer::Closed { number } => number,
        }
    }
}

/// One line, with its newline.
pub(crate) fn encode<T: Serialize>(message: &T) -> String {
    let mut line = serde_json::to_string(message).expect("these types have no map with odd keys");
    line.push('\n');
    line
}

/// The message in `line`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(line)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::spec::Bench;

    fn endpoint(n: u8) -> Endpoint {
        Endpoint { interface: format!("vh{n}"), address: [10, 77, 0, n].into(), mac: [2, 0, 0, 0, 0, n] }
    }

    pub(crate) fn job() -> Job {
        Job {
            number: 7,
            peer: "tcp".into(),
            side: Side::Client,
            specs: vec![Spec { bench: Bench::BwCopy, mtu: 1500, size: 64, samples: 10, millis: 20, ..Spec::default() }],
            local: endpoint(1),
            remote: endpoint(2),
            hello: "4711\n\"quoted\"".into(),
        }
    }

    #[test]
    fn a_message_is_one_line_and_comes_back_as_it_was() {
        let orders = [
            Order::Run(Box::new(job())),
            Order::Connected,
            Order::Go { number: 7, place: 0 },
            Order::Stop { number: 7 },
            Order::End { number: 8 },
        ];
        for order in orders {
            let line = encode(&order);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(decode::<Order>(&line).unwrap(), order);
        }
        let answers = [
            Answer::Ready { number: 1, hello: "x".into() },
            Answer::Progress { number: 1, bytes: 4711 },
            Answer::Done { number: 1, outcome: Outcome::Nothing },
            Answer::Done { number: 1, outcome: Outcome::Latency(vec![(1000, 2), (2000, 1)]) },
            Answer::Done { number: 1, outcome: Outcome::Stream { messages: 1.5, bytes: 2, nanos: 3 } },
            Answer::Done { number: 1, outcome: Outcome::Median { nanos: 1.5 } },
            Answer::Done { number: 1, outcome: Outcome::TooShort },
            Answer::Failed { number: 1, message: "no reply".into() },
            Answer::Closed { number: 1 },
        ];
        for answer in answers {
            assert_eq!(decode::<Answer>(&encode(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn garbage_is_an_error() {
        for line in ["", "{}", "hello", r#"{"order":"dance"}"#, r#"{"order":"run","number":1}"#] {
            assert!(decode::<Order>(line).is_err(), "{line:?}");
        }
    }
}
