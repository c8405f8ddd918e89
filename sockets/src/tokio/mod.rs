//! The streams and listeners of this crate for [tokio](https://docs.rs/tokio): the surface of `tokio::net`. Feature `tokio`.
//!
//! ```no_run
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use vmmc_sockets::tokio::VmmcListener; // was: use tokio::net::TcpListener;
//!
//! # async fn serve() -> std::io::Result<()> {
//! let listener = VmmcListener::bind("10.77.0.2:8080").await?;
//! loop {
//!     let (mut stream, _) = listener.accept().await?;
//!     tokio::spawn(async move {
//!         let mut bytes = [0; 1024];
//!         while let Ok(n @ 1..) = stream.read(&mut bytes).await {
//!             if stream.write_all(&bytes[..n]).await.is_err() {
//!                 break;
//!             }
//!         }
//!     });
//! }
//! # }
//! ```
//!
//! Reads and writes never enter the kernel on tokio's behalf: there is no descriptor in epoll, and none of tokio's own drivers is needed (features
//! `net` and `time` may be off). A task that has to wait leaves its waker with the [`Stack`](crate::Stack), which calls it when data, credit or a
//! connection has come. Each operation costs the task a unit of its budget ([`tokio::task::coop`]), as those of `tokio::net` do, so that a busy stream
//! doesn't starve its neighbours.
//!
//! *Cancel safety* is tokio's: `read`, `peek`, `accept`, `readable`, `writable` and `ready` lose nothing when their futures are dropped.
//!
//! | file | what |
//! |---|---|
//! | `stream.rs`   | [`VmmcStream`] |
//! | `split.rs`    | its halves, borrowed and owned |
//! | `listener.rs` | [`VmmcListener`], and the stream of what it accepts |
//! | `ready.rs`    | [`Interest`] and [`Ready`], and the loop around what may have to wait |
//! | `waiters.rs`  | all tasks that wait for the same thing |
//! | `driver.rs`   | the task that leads while the others have much to do |
//! | `address.rs`  | what may be connected or bound to |

mod address;
mod driver;
mod listener;
mod ready;
mod split;
mod stream;
mod waiters;

pub use address::ToSocketAddrs;
pub use listener::{VmmcListener, VmmcListenerStream};
pub use ready::{Interest, Ready};
pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use stream::VmmcStream;
