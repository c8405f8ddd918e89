//! The other side of [`process`](crate::process): does with sockets as it is told by lines on its standard input.
//!
//! | command | what it does | value |
//! |---|---|---|
//! | `ready` | nothing | |
//! | `listen L PORT` | binds | its address |
//! | `accept L S` | accepts a stream | the client's address |
//! | `try_accept L S` | accepts one that waits already | the client's address |
//! | `connect S ADDRESS` | connects | its own address |
//! | `write S SALT AT LEN` | writes that part of that content | |
//! | `fill S SALT` | writes from the start of the content until there is no more room | how much |
//! | `read S SALT AT LEN` | reads so much, and compares | |
//! | `end S` | reads until the end or an error | how much that was |
//! | `write_on S` | writes until an error | |
//! | `write_long S SALT LEN` | writes that much of that content, in long writes | |
//! | `shutdown S read\|write\|both` | | |
//! | `drop S` | drops streams or listeners of that name | |
//! | `serve L` | accepts for ever, and gives back to each client what it sends, on a thread each | |
//! | `serve_all L` | the same for one client after the other | |
//! | `churn ADDRESS TIMES` | connects, exchanges some bytes, closes, and again | |
//! | `connects G ADDRESS N`, `accepts G L N` | a group of streams | how many |
//! | `writes G AT LEN`, `reads G AT LEN` | on each stream of the group: its content is told by the client's port | |
//! | `limit N` | so many descriptors at the most | |

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmmc_sockets::{Stack, VmmcListener, VmmcStream};

use crate::common::Content;
use crate::process::{ADDRESS, ANSWER, FAMILY, INTERFACE, PEER_TIMEOUT};
use crate::sockets::{Listener, Stream};

/// No test of its own: the processes of the others.
#[test]
#[ignore = "the processes that other tests start"]
fn process() {
    let variable = |name| std::env::var(name).ok();
    let (Some(family), Some(address)) = (variable(FAMILY), variable(ADDRESS)) else {
        panic!("this is the process that other tests start, and no test of its own");
    };
    // Thousands of connections are to be open.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("more descriptors");
    let address: IpAddr = address.parse().expect("an address");
    if family == "Tcp" {
        obey(Tcp(address));
    } else {
        let interface = variable(INTERFACE).expect("an interface");
        let stack = Stack::builder().interface(&interface).address(address).peer_timeout(PEER_TIMEOUT);
        let stack = stack.bulk_owned(64 << 10).bulk_writes(64 << 10).node(|node| node.bulk_mtu(1280));
        let stack = stack.connect_timeout(2 * PEER_TIMEOUT).open().expect("opening a stack");
        obey(Vmmc(stack, address));
    }
    // Without the destructors of what other threads still use.
    std::process::exit(0);
}

/// Where listeners and streams come from.
trait Net: Send + Sync + 'static {
    type Listener: Listener<Stream = Self::Stream>;
    type Stream: Stream;
    fn bind(&self, port: u16) -> io::Result<Self::Listener>;
    fn connect(&self, address: SocketAddr) -> io::Result<Self::Stream>;
}

struct Tcp(IpAddr);

impl Net for Tcp {
    type Listener = TcpListener;
    type Stream = TcpStream;
    fn bind(&self, port: u16) -> io::Result<TcpListener> {
        TcpListener::bind((self.0, port))
    }
    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address)
    }
}

struct Vmmc(Stack, IpAddr);

impl Net for Vmmc {
    type Listener = VmmcListener;
    type Stream = VmmcStream;
    fn bind(&self, port: u16) -> io::Result<VmmcListener> {
        self.0.bind(SocketAddr::new(self.1, port))
    }
    fn connect(&self, address: SocketAddr) -> io::Result<VmmcStream> {
        self.0.connect(address)
    }
}

/// Streams, with the ports of their clients.
type Group<S> = Vec<(u16, S)>;

/// What a process has.
struct State<N: Net> {
    net: N,
    listeners: Mutex<HashMap<String, Arc<N::Listener>>>,
    streams: Mutex<HashMap<String, Arc<N::Stream>>>,
    groups: Mutex<HashMap<String, Arc<Group<N::Stream>>>>,
}

fn obey<N: Net>(net: N) {
    let (listeners, streams, groups) = Default::default();
    let state = Arc::new(State { net, listeners, streams, groups });
    for line in io::stdin().lines().map_while(Result::ok) {
        let (id, command) = line.split_once(' ').expect("a number and a command");
        let (id, command, state) = (id.to_owned(), command.to_owned(), state.clone());
        let work = move || {
            let answer = match state.act(&command) {
                Ok(value) => format!("ok {value}"),
                Err(error) => format!("err {:?} ({error})", error.kind()),
            };
            println!("\n{ANSWER}{id} {}", answer.replace('\n', " "));
        };
        std::thread::Builder::new().spawn(work).expect("starting a thread");
    }
}

/// The next word of a command.
fn word<'a, T: FromStr>(words: &mut impl Iterator<Item = &'a str>) -> T {
    words.next().and_then(|word| word.parse().ok()).expect("a command of the table")
}

fn find<T>(table: &Mutex<HashMap<String, Arc<T>>>, name: &str) -> Arc<T> {
    table.lock().unwrap().get(name).expect("a name that has been given").clone()
}

impl<N: Net> State<N> {
    fn act(&self, command: &str) -> io::Result<String> {
        let mut words = command.split_whitespace();
        let words = &mut words;
        let verb: String = word(words);
        if verb == "ready" {
            return Ok(String::new());
        }
        if verb == "limit" {
            return limit(word(words)).map(|()| String::new());
        }
        let name: String = word(words);
        match verb.as_str() {
            "listen" => {
                let listener = self.net.bind(word(words))?;
                let address = listener.local_addr()?;
                self.listeners.lock().unwrap().insert(name, Arc::new(listener));
                Ok(address.to_string())
            }
            "accept" => self.accept(&name, word(words)),
            "try_accept" => {
                let listener = find(&self.listeners, &name);
                listener.set_nonblocking(true)?;
                let result = self.accept(&name, word(words));
                listener.set_nonblocking(false)?;
                result
            }
            "connect" => {
                let stream = self.net.connect(word(words))?;
                let address = stream.local_addr()?;
                self.streams.lock().unwrap().insert(name, Arc::new(stream));
                Ok(address.to_string())
            }
            "serve" => serve(&*find(&self.listeners, &name)),
            "serve_all" => find(&self.listeners, &name).incoming().try_for_each(|s| echo(&s?)).map(|()| String::new()),
            "churn" => self.churn(name.parse().expect("an address"), word(words)),
            "drop" => {
                self.listeners.lock().unwrap().remove(&name);
                self.streams.lock().unwrap().remove(&name);
                self.groups.lock().unwrap().remove(&name);
                Ok(String::new())
            }
            "connects" | "accepts" | "writes" | "reads" => self.group(&verb, name, words),
            _ => stream_act(&verb, &*find(&self.streams, &name), words),
        }
    }

    fn accept(&self, listener: &str, name: String) -> io::Result<String> {
        let (stream, from) = find(&self.listeners, listener).accept()?;
        stream.set_nonblocking(false)?;
        self.streams.lock().unwrap().insert(name, Arc::new(stream));
        Ok(from.to_string())
    }

    fn churn(&self, address: SocketAddr, times: u64) -> io::Result<String> {
        for round in 0..times {
            let stream = self.net.connect(address)?;
            let content = Content::new(round);
            stream.write_all(&content.bytes(0, 100))?;
            let mut seen = [0; 100];
            stream.read_exact(&mut seen)?;
            content.check(0, &seen);
        }
        Ok(String::new())
    }

    fn group<'a>(&self, verb: &str, name: String, words: &mut impl Iterator<Item = &'a str>) -> io::Result<String> {
        let group = match verb {
            "connects" => {
                let (address, count): (SocketAddr, usize) = (word(words), word(words));
                let connect = || {
                    let stream = self.net.connect(address)?;
                    Ok((stream.local_addr()?.port(), stream))
                };
                (0..count).map(|_| connect()).collect::<io::Result<Vec<_>>>()?
            }
            "accepts" => {
                let listener = find(&self.listeners, &word::<String>(words));
                let count = word(words);
                (0..count)
                    .map(|_| listener.accept().map(|(stream, from)| (from.port(), stream)))
                    .collect::<io::Result<Vec<_>>>()?
            }
            "writes" => {
                let (at, len) = (word(words), word(words));
                for (port, stream) in &*find(&self.groups, &name) {
                    stream.write_all(&Content::new((*port).into()).bytes(at, len))?;
                }
                return Ok(String::new());
            }
            _ => {
                let (at, len) = (word(words), word(words));
                for (port, stream) in &*find(&self.groups, &name) {
                    read(stream, Content::new((*port).into()), at, len)?;
                }
                return Ok(String::new());
            }
        };
        let count = group.len();
        self.groups.lock().unwrap().insert(name, Arc::new(group));
        Ok(count.to_string())
    }
}

fn limit(descriptors: u64) -> io::Result<()> {
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), ..getrlimit(Resource::Nofile) })?;
    Ok(())
}

fn read<S: Stream>(stream: &S, content: Content, at: u64, len: usize) -> io::Result<()> {
    let mut seen = vec![0; len];
    stream.read_exact(&mut seen)?;
    content.check(at, &seen);
    Ok(())
}

fn stream_act<'a, S: Stream>(verb: &str, stream: &S, words: &mut impl Iterator<Item = &'a str>) -> io::Result<String> {
    match verb {
        "write" => {
            let content = Content::new(word(words));
            let (mut at, end): (u64, u64) = (word(words), word(words));
            let end = at + end;
            while at < end {
                let piece = (end - at).min(100_000);
                stream.write_all(&content.bytes(at, piece as usize))?;
                at += piece;
            }
        }
        "write_long" => {
            let content = Content::new(word(words));
            let (mut at, end): (u64, u64) = (0, word(words));
            while at < end {
                stream.write_all(&content.bytes(at, 1 << 20))?;
                at += 1 << 20;
            }
        }
        "fill" => {
            let content = Content::new(word(words));
            let (mut at, mut refused) = (0, 0);
            stream.set_nonblocking(true)?;
            while refused < 4 {
                match stream.write(&content.bytes(at, 50_000)) {
                    Ok(n) => (at, refused) = (at + n as u64, 0),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        refused += 1;
                        std::thread::sleep(std::time::Duration::from_millis(8));
                    }
                    Err(error) => return Err(error),
                }
            }
            stream.set_nonblocking(false)?;
            return Ok(at.to_string());
        }
        "read" => {
            let content = Content::new(word(words));
            let (mut at, end): (u64, u64) = (word(words), word(words));
            let end = at + end;
            while at < end {
                let piece = (end - at).min(100_000);
                read(stream, content, at, piece as usize)?;
                at += piece;
            }
        }
        "end" => {
            let (mut buffer, mut count) = (vec![0; 100_000], 0);
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(count.to_string()),
                    n => count += n,
                }
            }
        }
        "write_on" => loop {
            stream.write_all(&[0; 1000])?;
            std::thread::sleep(std::time::Duration::from_millis(1));
        },
        "shutdown" => stream.shutdown(match word::<String>(words).as_str() {
            "read" => Shutdown::Read,
            "write" => Shutdown::Write,
            _ => Shutdown::Both,
        })?,
        other => panic!("{other} is no command"),
    }
    Ok(String::new())
}

/// Gives back what comes, until the end.
fn echo<S: Stream>(stream: &S) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => stream.write_all(&buffer[..n])?,
            // Clients may go as they like.
            Err(_) => return Ok(()),
        }
    }
}

fn serve<L: Listener>(listener: &L) -> io::Result<String> {
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || echo(&stream));
    }
    Ok(String::new())
}
