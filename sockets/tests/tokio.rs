//! The types for tokio, between two hosts of a simulated network, in one process. Nothing here asserts a time: what fails, hangs.
//!
//! Every case runs on a runtime of one thread, where nobody else may be starved, and on one of two, where everything may happen at once.

mod common;

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use vmmc_sockets::Stack;
use vmmc_sockets::tokio::{Interest, Ready, VmmcListener, VmmcListenerStream, VmmcStream};

use common::simulated::{Hosts, PERFECT};
use common::{Content, watched};

/// Two hosts with a stack each, and what goes between them.
struct World {
    server: Stack,
    client: Stack,
    // After the stacks: they say goodbye through it.
    _hosts: Hosts,
}

impl World {
    fn new() -> World {
        let hosts = Hosts::new(1, PERFECT);
        let [server, client] = [2, 1].map(|n| Stack::builder().open_on(hosts.lane(n)).expect("opening a stack"));
        World { server, client, _hosts: hosts }
    }

    /// One whose hosts have bulk lanes, which long writes take.
    fn with_bulk() -> World {
        let hosts = Hosts::new(1, PERFECT);
        let builder = Stack::builder().bulk_owned(64 << 10).bulk_writes(64 << 10).node(|node| node.bulk_mtu(1280));
        let open = |n| builder.clone().open_on(hosts.lane_with_bulk(n)).expect("opening a stack");
        let [server, client] = [2, 1].map(open);
        World { server, client, _hosts: hosts }
    }

    fn listen(&self) -> VmmcListener {
        VmmcListener::bind_on(&self.server, SocketAddr::new(Hosts::address(2), 0)).unwrap()
    }

    async fn connect(&self, listener: &VmmcListener) -> VmmcStream {
        VmmcStream::connect_on(&self.client, listener.local_addr().unwrap()).await.unwrap()
    }

    /// The client's end and the server's.
    async fn pair(&self) -> (VmmcStream, VmmcStream) {
        let listener = self.listen();
        let client = self.connect(&listener).await;
        (client, listener.accept().await.unwrap().0)
    }
}

/// Runs a case on each kind of runtime.
fn on_each_runtime<F: Future<Output = ()>>(name: &str, case: impl Fn(World) -> F + Copy + Send + 'static) {
    watched(&format!("{name} (one thread)"), move || {
        Builder::new_current_thread().enable_time().build().unwrap().block_on(case(World::new()));
    });
    watched(&format!("{name} (two threads)"), move || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(case(World::new()));
    });
    watched(&format!("{name} (two threads, bulk lanes)"), move || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(case(World::with_bulk()));
    });
}

#[test]
fn long_writes_go_by_the_bulk_lane_both_ways() {
    watched("long writes", || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::with_bulk();
            let (mut client, server) = world.pair().await;
            let echo = tokio::spawn(send_back(server));
            let (content, length) = (Content::new(12), 20 << 20);
            let (mut reader, mut writer) = client.split();
            let writing = async {
                for at in (0..length).step_by(1 << 20) {
                    writer.write_all(&content.bytes(at, 1 << 20)).await.unwrap();
                }
                writer.shutdown().await.unwrap();
            };
            let reading = async {
                let (mut at, mut buffer) = (0, vec![0; 300_000]);
                loop {
                    let read = reader.read(&mut buffer).await.unwrap();
                    content.check(at, &buffer[..read]);
                    at += read as u64;
                    if read == 0 {
                        break;
                    }
                }
                assert_eq!(at, length);
            };
            tokio::join!(writing, reading);
            echo.await.unwrap();
            let landed = |stack: &Stack| stack.node().stats().unwrap().engine.rx_bulk_bytes;
            assert!(landed(&world.server) > 0, "nothing has gone by the lane");
        });
    });
}

/// A future that ought to wait: long enough that one that ought not to has been seen not to.
async fn waits<T>(future: impl Future<Output = T>) -> bool {
    timeout(Duration::from_millis(20), future).await.is_err()
}

async fn send_back(mut stream: VmmcStream) {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
}

#[test]
fn what_is_sent_comes_back() {
    on_each_runtime("echo", |world| async move {
        let listener = world.listen();
        let mut client = world.connect(&listener).await;
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!((peer, peer), (client.local_addr().unwrap(), server.peer_addr().unwrap()));
        assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());
        let echo = tokio::spawn(send_back(server));
        let content = Content::new(1);
        let mut at = 0;
        for length in [1, 2, 64, 1000, 4096, 100_000, 1] {
            client.write_all(&content.bytes(at, length)).await.unwrap();
            let mut back = vec![0; length];
            client.read_exact(&mut back).await.unwrap();
            content.check(at, &back);
            at += length as u64;
        }
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        echo.await.unwrap();
    });
}

#[test]
fn borrowed_halves_read_and_write_at_once() {
    on_each_runtime("borrowed halves", |world| async move {
        let (mut client, server) = world.pair().await;
        let echo = tokio::spawn(send_back(server));
        let (content, length) = (Content::new(2), 3 << 20);
        let (mut reader, mut writer) = client.split();
        // More than fits anywhere: it only works if both go on at the same time.
        let write = async {
            writer.write_all(&content.bytes(0, length)).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let read = async {
            let mut back = Vec::new();
            assert_eq!(reader.read_to_end(&mut back).await.unwrap(), length);
            content.check(0, &back);
        };
        tokio::join!(write, read);
        echo.await.unwrap();
    });
}

#[test]
fn owned_halves_live_in_tasks_of_their_own() {
    on_each_runtime("owned halves", |world| async move {
        let (client, server) = world.pair().await;
        let (mut client_reads, mut client_writes) = client.into_split();
        let (mut server_reads, mut server_writes) = server.into_split();
        let (there, back) = (Content::new(3), Content::new(4));
        let write = tokio::spawn(async move {
            client_writes.write_all(&there.bytes(0, 1 << 20)).await.unwrap();
            // Dropped here, which the server reads as the end.
        });
        let read = tokio::spawn(async move {
            let mut bytes = Vec::new();
            client_reads.read_to_end(&mut bytes).await.unwrap();
            back.check(0, &bytes);
            bytes.len()
        });
        let mut bytes = Vec::new();
        server_reads.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        there.check(0, &bytes);
        // The other direction is as open as ever.
        server_writes.write_all(&back.bytes(0, 1000)).await.unwrap();
        server_writes.shutdown().await.unwrap();
        assert_eq!(read.await.unwrap(), 1000);
        write.await.unwrap();
    });
}

#[test]
fn halves_are_reunited_and_forgotten() {
    on_each_runtime("reunion", |world| async move {
        let ((client, mut server), (other, _other_server)) = (world.pair().await, world.pair().await);
        let address = client.local_addr().unwrap();
        let ((reads, writes), (other_reads, other_writes)) = (client.into_split(), other.into_split());
        let error = reads.reunite(other_writes).unwrap_err();
        assert!(error.to_string().contains("not from the same stream"), "{error}");
        other_reads.reunite(error.1).unwrap();
        let mut client = error.0.reunite(writes).unwrap();
        assert_eq!(client.local_addr().unwrap(), address);
        // Neither has said that it writes no more.
        client.write_all(b"still").await.unwrap();
        let mut bytes = [0; 5];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"still");

        let (reads, writes) = client.into_split();
        writes.forget();
        assert!(waits(server.peek(&mut [0])).await, "the end came with a half that was forgotten");
        drop(reads);
        assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
    });
}

#[test]
fn many_tasks_have_a_stream_each() {
    on_each_runtime("many tasks", |world| async move {
        const STREAMS: u64 = 200;
        let listener = world.listen();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        for salt in 0..STREAMS {
            let stack = world.client.clone();
            tasks.spawn(async move {
                let mut stream = VmmcStream::connect_on(&stack, address).await.unwrap();
                let content = Content::new(salt);
                for round in 0..20 {
                    stream.write_all(&content.bytes(round * 500, 500)).await.unwrap();
                    let mut back = [0; 500];
                    stream.read_exact(&mut back).await.unwrap();
                    content.check(round * 500, &back);
                }
            });
        }
        for _ in 0..STREAMS {
            tasks.spawn(send_back(listener.accept().await.unwrap().0));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

#[test]
fn a_cancelled_read_loses_nothing() {
    on_each_runtime("cancelled reads", |world| async move {
        let (mut client, mut server) = world.pair().await;
        let content = Content::new(5);
        let mut at = 0;
        for round in 0..50 {
            let mut bytes = [0; 300];
            assert!(timeout(Duration::from_millis(1), client.read(&mut bytes)).await.is_err());
            server.write_all(&content.bytes(at, 300)).await.unwrap();
            let mut n = 0;
            while n < 300 {
                // In every second round it is cancelled wherever it happens to be.
                tokio::select! {
                    read = client.read(&mut bytes[n..]) => n += read.unwrap(),
                    () = yield_now(), if round % 2 == 0 => {}
                }
            }
            content.check(at, &bytes);
            at += 300;
        }
    });
}

#[test]
fn cancelled_accepts_and_connects_lose_nothing() {
    on_each_runtime("cancelled accepts", |world| async move {
        let listener = world.listen();
        for _ in 0..5 {
            assert!(timeout(Duration::from_millis(1), listener.accept()).await.is_err());
            let mut client = world.connect(&listener).await;
            let mut server = listener.accept().await.unwrap().0;
            client.write_all(b"x").await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'x');
        }
        // What a connect has made that nobody waits for any more is closed.
        drop(poll_once(world.connect(&listener)).await);
        let (mut orphan, _) = listener.accept().await.unwrap();
        assert_eq!(orphan.read(&mut [0]).await.unwrap(), 0);
    });
}

/// Polls it once, and drops it.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn a_listener_is_a_stream_of_streams() {
    on_each_runtime("stream of accepts", |world| async move {
        let listener = world.listen();
        let address = listener.local_addr().unwrap();
        let mut accepted = VmmcListenerStream::new(listener);
        let stack = world.client.clone();
        let connect = tokio::spawn(async move {
            for number in 0..20 {
                VmmcStream::connect_on(&stack, address).await.unwrap().write_u8(number).await.unwrap();
            }
        });
        for number in 0..20 {
            let next = poll_fn(|context| Pin::new(&mut accepted).poll_next(context)).await;
            let mut stream = next.expect("it never ends").unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), number);
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
        connect.await.unwrap();
        assert_eq!(accepted.as_ref().local_addr().unwrap(), accepted.into_inner().local_addr().unwrap());
    });
}

#[test]
fn the_end_and_a_reset_are_what_tcps_are() {
    on_each_runtime("ends", |world| async move {
        let (mut client, mut server) = world.pair().await;
        client.write_all(b"last words").await.unwrap();
        client.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"last words");
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the end is where it was");
        assert_eq!(client.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);

        // Dropped with data that nobody has read.
        let (mut client, server) = world.pair().await;
        client.write_all(b"unread").await.unwrap();
        server.readable().await.unwrap();
        drop(server);
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);

        // Written to when the other has gone.
        let (mut client, server) = world.pair().await;
        drop(server);
        let error = loop {
            if let Err(error) = client.write_all(&[0; 1000]).await {
                break error.kind();
            }
            yield_now().await;
        };
        assert!(matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error:?}");

        let nobody = VmmcStream::connect_on(&world.client, SocketAddr::new(Hosts::address(2), 1)).await;
        assert_eq!(nobody.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn readiness_is_waited_for() {
    on_each_runtime("readiness", |world| async move {
        let (client, server) = world.pair().await;
        let both = Interest::READABLE | Interest::WRITABLE;
        assert_eq!(client.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(client.ready(both).await.unwrap(), Ready::WRITABLE);
        assert!(waits(client.readable()).await);
        assert_eq!(server.try_write_vectored(&[IoSlice::new(b"he"), IoSlice::new(b"llo")]).unwrap(), 5);
        // The second piece may be a moment behind the first.
        while client.peek(&mut [0; 8]).await.unwrap() < 5 {
            yield_now().await;
        }
        assert_eq!(client.ready(both).await.unwrap(), Ready::ALL);
        assert_eq!(client.ready(Interest::READABLE).await.unwrap(), Ready::READABLE);

        let mut peeked = [0; 3];
        assert_eq!(client.peek(&mut peeked).await.unwrap(), 3);
        assert_eq!(&peeked, b"hel");
        let mut buffer = [0; 8];
        let mut buffer = ReadBuf::new(&mut buffer);
        buffer.put_slice(b">");
        assert_eq!(poll_fn(|context| client.poll_peek(context, &mut buffer)).await.unwrap(), 5);
        assert_eq!(buffer.filled(), b">hello");
        let (mut a, mut b) = ([0; 2], [0; 8]);
        assert_eq!(client.try_read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).unwrap(), 5);
        assert_eq!((&a, &b[..3]), (b"he", &b"llo"[..]));
        assert_eq!(client.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

        // Until there is no room, and until there is again.
        let content = Content::new(6);
        let mut sent = 0;
        loop {
            match server.try_write(&content.bytes(sent, 10_000)) {
                Ok(n) => sent += n as u64,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    // Credit that is under way comes now or never: nobody reads.
                    if waits(server.writable()).await {
                        break;
                    }
                }
            }
        }
        let mut received = 0;
        let mut bytes = vec![0; 5000];
        while received < sent {
            client.readable().await.unwrap();
            match client.try_read(&mut bytes) {
                Ok(n) => {
                    content.check(received, &bytes[..n]);
                    received += n as u64;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        server.writable().await.unwrap();
        assert!(server.try_write(b"x").unwrap() == 1);
    });
}

#[test]
fn whoever_waits_is_woken() {
    on_each_runtime("many who wait", |world| async move {
        let listener = Arc::new(world.listen());
        let (client, mut server) = world.pair().await;
        let client = Arc::new(client);
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let client = client.clone();
            tasks.spawn(async move { client.readable().await.unwrap() });
        }
        let mut accepts = JoinSet::new();
        for _ in 0..3 {
            let listener = listener.clone();
            accepts.spawn(async move { listener.accept().await.unwrap().1 });
        }
        // All of them wait by now; if not, the test is only easier.
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.write_all(b"x").await.unwrap();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(world.connect(&listener).await);
        }
        while let Some(ended) = accepts.join_next().await {
            let peer = ended.unwrap();
            assert!(clients.iter().any(|client| client.local_addr().unwrap() == peer));
        }
    });
}

/// Counts how often it was woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Counter>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn wakers_are_called_and_let_go() {
    on_each_runtime("wakers", |world| async move {
        let (client, mut server) = world.pair().await;
        let listener = world.listen();
        // Whoever asks and asks again, by ever new wakers, leaves the last one behind at the most.
        let counters: Vec<Arc<Counter>> = (0..1000).map(|_| Arc::default()).collect();
        for counter in &counters {
            let waker = Waker::from(counter.clone());
            let mut context = Context::from_waker(&waker);
            assert!(client.poll_read_ready(&mut context).is_pending());
            assert!(listener.poll_accept(&mut context).is_pending());
            let mut readable = Box::pin(client.readable());
            assert!(readable.as_mut().poll(&mut context).is_pending());
        }
        let kept = counters.iter().filter(|counter| Arc::strong_count(counter) > 1).count();
        assert!(kept <= 2, "{kept} of 1000 wakers are still there");

        let last = counters.last().unwrap();
        server.write_all(b"x").await.unwrap();
        while last.0.load(Ordering::SeqCst) == 0 {
            yield_now().await;
        }
        drop((client, listener));
        // Whoever is calling one has it a moment longer.
        while counters.iter().any(|counter| Arc::strong_count(counter) > 1) {
            yield_now().await;
        }
    });
}

#[test]
fn a_busy_stream_starves_nobody() {
    on_each_runtime("budget", |world| async move {
        let (client, mut server) = world.pair().await;
        server.write_all(b"x").await.unwrap();
        client.readable().await.unwrap();
        // Never waits: without a budget nobody else would get on, where there is one thread.
        let busy = tokio::spawn(async move {
            loop {
                client.peek(&mut [0]).await.unwrap();
            }
        });
        for _ in 0..10 {
            yield_now().await;
        }
        busy.abort();
        assert!(busy.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn streams_change_between_tokio_and_std() {
    on_each_runtime("conversion", |world| async move {
        let (client, mut server) = world.pair().await;
        client.set_nodelay(true).unwrap();
        assert!(client.nodelay().unwrap());
        assert_eq!(client.linger().unwrap(), None);
        assert!(client.take_error().unwrap().is_none());
        let client = client.into_std().unwrap();
        assert_eq!(std::io::Read::read(&mut &client, &mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        let client = tokio::task::spawn_blocking(move || {
            std::io::Read::read_exact(&mut &client, &mut [0; 3]).unwrap();
            client
        });
        server.write_all(b"abc").await.unwrap();
        let mut client = VmmcStream::try_from(client.await.unwrap()).unwrap();
        assert!(waits(client.read_u8()).await);
        server.write_all(b"d").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'd');
        client.into_std().unwrap().shutdown(Shutdown::Both).unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn a_proxy_is_tokios_own() {
    on_each_runtime("proxy", |world| async move {
        let ((mut outer, mut proxy_in), (mut proxy_out, inner)) = (world.pair().await, world.pair().await);
        let echo = tokio::spawn(send_back(inner));
        let proxy = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut proxy_in, &mut proxy_out).await });
        let content = Content::new(7);
        for round in 0..20 {
            outer.write_all(&content.bytes(round * 9000, 9000)).await.unwrap();
            let mut back = [0; 9000];
            outer.read_exact(&mut back).await.unwrap();
            content.check(round * 9000, &back);
        }
        outer.shutdown().await.unwrap();
        assert_eq!(outer.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(proxy.await.unwrap().unwrap(), (180_000, 180_000));
        echo.await.unwrap();
    });
}

#[test]
fn a_runtime_that_stands_still_holds_up_no_other() {
    watched("two runtimes", || {
        let world = World::new();
        let play = |rounds: u64, salt: u64| {
            let (stack, listener) = (world.client.clone(), world.listen());
            async move {
                let address = listener.local_addr().unwrap();
                let mut tasks = JoinSet::new();
                for _ in 0..8 {
                    let mut client = VmmcStream::connect_on(&stack, address).await.unwrap();
                    tasks.spawn(send_back(listener.accept().await.unwrap().0));
                    tasks.spawn(async move {
                        let content = Content::new(salt);
                        for round in 0..rounds {
                            client.write_all(&content.bytes(round * 100, 100)).await.unwrap();
                            let mut back = [0; 100];
                            client.read_exact(&mut back).await.unwrap();
                            content.check(round * 100, &back);
                        }
                    });
                }
                tasks
            }
        };
        // It has the driver, and its tasks much to do, when it is left alone.
        let still = Builder::new_current_thread().enable_time().build().unwrap();
        let _tasks = still.block_on(async {
            let tasks = play(u64::MAX / 100, 1).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            tasks
        });
        let other = Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        other.block_on(async { play(200, 2).await.join_all().await });
        // And goes on where it was.
        still.block_on(async { play(50, 3).await.join_all().await });
    });
}

#[test]
fn what_is_written_arrives_though_the_runtime_does_not_come_round() {
    watched("a task that keeps its thread", || {
        const STREAMS: usize = 8;
        let world = World::new();
        let listener = world.listen();
        let address = listener.local_addr().unwrap();
        let arrived: Arc<[AtomicUsize; STREAMS]> = Arc::default();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for number in 0..STREAMS {
                let mut client = VmmcStream::connect_on(&world.client, address).await.unwrap();
                let server = listener.accept().await.unwrap().0.into_std().unwrap();
                let counters = arrived.clone();
                std::thread::spawn(move || {
                    server.set_nonblocking(false).unwrap();
                    for round in 0..50 {
                        std::io::Write::write_all(&mut &server, &[round]).unwrap();
                        std::io::Read::read_exact(&mut &server, &mut [0]).unwrap();
                        counters[number].fetch_add(1, Ordering::SeqCst);
                    }
                });
                let counters = arrived.clone();
                tasks.spawn(async move {
                    for round in 0..50 {
                        client.read_u8().await.unwrap();
                        client.write_u8(0).await.unwrap();
                        while counters[number].load(Ordering::SeqCst) <= round {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            tasks.join_all().await;
        });
    });
}
