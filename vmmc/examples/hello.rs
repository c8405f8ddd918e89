//! One program writes into another's memory.
//!
//! On one host `hello serve INTERFACE`, on the other `hello send INTERFACE PEER`, where PEER is an address like
//! 10.77.0.2:7000.

use std::error::Error;

use vmmc::{Key, Node, Progress};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", interface] => {
            let node = Node::builder().interface(interface).progress(Progress::Thread { core: None }).open()?;
            let inbox = node.export("inbox").len(1 << 20).key(Key::PUBLIC).notify(true).create()?;
            println!("exporting \"inbox\" at {}", node.local());
            let news = inbox.wait_notification(None)?;
            let mut bytes = vec![0; news.length as usize];
            inbox.read(news.offset, &mut bytes)?;
            println!("{} wrote at {} (tag {}): {}", news.peer, news.offset, news.tag, String::from_utf8_lossy(&bytes));
        }
        ["send", interface, peer] => {
            let node = Node::builder().interface(interface).open()?;
            let remote = node.import(peer.parse()?, "inbox", Key::PUBLIC)?;
            remote.send(b"hello, memory", 100).notify(42).wait()?;
            println!("it is in the memory of {peer}");
        }
        _ => return Err("usage: hello serve INTERFACE | hello send INTERFACE PEER".into()),
    }
    Ok(())
}
