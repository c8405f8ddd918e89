//! Metrics over HTTP, for Prometheus to fetch: [`Builder::metrics`](crate::Builder::metrics).
//!
//! A thread of the node's own, asleep until somebody comes. At most [`MAX_CONNECTIONS`] are served at a time, for ten seconds each, and one request each.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::accept::Format;
use super::prometheus;
use crate::error::Error;
use crate::node::Shared;

/// How many connections are served at a time; those beyond it are closed.
pub const MAX_CONNECTIONS: usize = 16;

/// How long a client may take to say what it wants, and for all of it.
const HEADER: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);

/// What there is: [`prometheus::CONTENT_TYPE`] and [`prometheus::PLAIN_CONTENT_TYPE`].
const OPEN_METRICS: Format = Format { media: ("application", "openmetrics-text"), version: "1.0.0" };
const PLAIN: Format = Format { media: ("text", "plain"), version: "0.0.4" };

/// After an error of accept, so that it doesn't come back at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The thread: dropping it ends it.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    pub(crate) fn start(shared: &Arc<Shared>, address: SocketAddr) -> Result<MetricsServer, Error> {
        let failed = |source| Error::Metrics { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (runtime, shared) = (runtime.map_err(failed)?, shared.clone());
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            runtime.block_on(async {
                tokio::spawn(serve(listener, shared));
                let _ = stopped.await;
            });
            // What is still being served ends with the runtime.
        };
        let thread = std::thread::Builder::new().name("vmmc-metrics".to_owned()).spawn(body).map_err(failed)?;
        info!(target: "vmmc::monitor", "metrics at http://{address}/metrics");
        Ok(MetricsServer { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        // Dropping the sender ends the thread as well as sending.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // If it has panicked its message is already on stderr.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(target: "vmmc::monitor", %error, "metrics can't be served");
            return;
        }
    };
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(target: "vmmc::monitor", %error, "a connection for metrics can't be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if connections.load(Ordering::Relaxed) == MAX_CONNECTIONS {
            continue;
        }
        connections.fetch_add(1, Ordering::Relaxed);
        let (shared, connections) = (shared.clone(), connections.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&shared, &request);
                async { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER).keep_alive(false);
            // Whoever doesn't take its answer, or hangs up, has missed it.
            let _ = tokio::time::timeout(WHOLE, http.serve_connection(TokioIo::new(stream), service)).await;
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n".to_owned());
    }
    if request.method() != Method::GET {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match shared.stats() {
        Ok(stats) => {
            let (text, kind) = match wants_open_metrics(request) {
                true => (prometheus::encode(vec![stats]), prometheus::CONTENT_TYPE),
                false => (prometheus::encode_plain(vec![stats]), prometheus::PLAIN_CONTENT_TYPE),
            };
            let mut response = plain(StatusCode::OK, text);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Whether a client would rather have OpenMetrics than Prometheus' plain text. Who wants both alike, and doesn't name the former, gets the latter; so does who says nothing, or wants neither.
fn wants_open_metrics<B>(request: &Request<B>) -> bool {
    let fields = || request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let [open, plain] = [OPEN_METRICS, PLAIN].map(|format| format.wish(fields()));
    let is_named = open.specific >= 2;
    open.weight > plain.weight || open.weight > 0 && open.weight == plain.weight && is_named
}

/// The error's advice.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": `ss -ltnp` shows who listens there; or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            ": this host (or network namespace) has no such address; 127.0.0.1 and 0.0.0.0 always are"
        }
        io::ErrorKind::PermissionDenied => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}
