//! A program receives messages in its own memory: the sender writes them into the export, as ever, and they aren't there.
//!
//! On one host `redirect serve INTERFACE`, on the other `redirect send INTERFACE PEER`, where PEER is an address like
//! 10.77.0.2:7000.

use std::error::Error;
use std::time::Duration;

use vmmc::{Key, Node, Progress};

/// How many messages there are, and how long each is, bytes.
const MESSAGES: u32 = 3;
const LENGTH: usize = 24;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", interface] => serve(interface),
        ["send", interface, peer] => send(interface, peer),
        _ => Err("usage: redirect serve INTERFACE | redirect send INTERFACE PEER".into()),
    }
}

fn serve(interface: &str) -> Result<(), Box<dyn Error>> {
    let node = Node::builder().interface(interface).progress(Progress::Thread { core: None }).open()?;
    let inbox = node.export("inbox").len(1 << 20).key(Key::PUBLIC).notify(true).create()?;
    println!("exporting \"inbox\" at {}", node.local());

    // The first message finds a redirect. The others come while the program is busy, and are moved when it gets to them.
    let mut memory = vec![0; LENGTH];
    for _ in 0..MESSAGES {
        let posted = inbox.redirect_next(memory)?;
        memory = posted.wait(None)?;
        let news = inbox.wait_notification(None)?;
        println!("{} wrote at {} (tag {}): {}", news.peer, news.offset, news.tag, String::from_utf8_lossy(&memory));
        println!("  it went to {:?}", news.landed);
        std::thread::sleep(Duration::from_millis(100));
    }

    let engine = node.stats()?.engine;
    println!("{} bytes came straight, {} were moved", engine.redirected_bytes, engine.rx_moved_bytes);
    Ok(())
}

fn send(interface: &str, peer: &str) -> Result<(), Box<dyn Error>> {
    let node = Node::builder().interface(interface).open()?;
    let remote = node.import(peer.parse()?, "inbox", Key::PUBLIC)?;
    for tag in 1..=MESSAGES {
        // One behind the other, so that none is written over before it has been received.
        let offset = u64::from(tag - 1) * LENGTH as u64;
        let text = format!("{:<LENGTH$}", format!("hello, number {tag}"));
        remote.send(&text, offset).notify(tag).wait()?;
    }
    println!("all messages are in the memory of {peer}");
    Ok(())
}
