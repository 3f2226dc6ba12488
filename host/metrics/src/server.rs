//! Serves metrics over HTTP/1 on a thread of its own, which nothing waits for.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::{
        fs::FileTypeExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use super::{
    MetricsError, export,
    tenants::{self, MetricsProvider},
};
use flowgate_base::address::ListenAddress;
use flowgate_base::files::{Directory, Trust};
use flowgate_pipeline::{counters::Counters, stats::Board};

/// Maximum number of connections at the same time. Beyond it, the oldest is closed that has lasted longer than
/// [`MIN_CONNECTION_TIME`].
const MAX_CONNECTIONS: usize = 16;
/// Time for which a connection is kept while others wait: a scraper needs some milliseconds.
const MIN_CONNECTION_TIME: Duration = Duration::from_secs(1);
/// Maximum length in bytes of a request with its headers.
const MAX_REQUEST: usize = 16 << 10;
/// Maximum duration of a connection, whatever the client does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, usually for lack of descriptors.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A running server; dropping it ends the server.
#[derive(Debug)]
pub struct Server {
    address: ListenAddress,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The socket file to remove.
    file: Option<PathBuf>,
}

/// Serves the metrics of `board` and `counters` at `/metrics` of an address.
///
/// # Errors
/// [`MetricsError::Listen`] if the address is in use, not local, or not permitted; [`MetricsError::Start`].
pub fn serve(address: &ListenAddress, board: &Board, counters: &Counters) -> Result<Server, MetricsError> {
    start(address, export::registry(board.clone(), counters.clone()))
}

/// Serves the metrics of a service with tenants; `look` is called for each scrape.
///
/// # Errors
/// See [`serve`].
pub fn serve_tenants(
    address: &ListenAddress,
    provider: MetricsProvider,
    counters: &Counters,
) -> Result<Server, MetricsError> {
    start(address, tenants::registry(provider, counters.clone()))
}

fn start(address: &ListenAddress, registry: Registry) -> Result<Server, MetricsError> {
    let failed = |source| MetricsError::Listen { address: address.clone(), source };
    let listener = match address {
        ListenAddress::Tcp(address) => ListeningSocket::Tcp(listen(*address).map_err(failed)?),
        ListenAddress::Unix(path) => ListeningSocket::Unix(listen_at(path).map_err(failed)?),
    };
    let file = match address {
        ListenAddress::Unix(path) => Some(path.clone()),
        ListenAddress::Tcp(_) => None,
    };
    let address = listener.address().unwrap_or_else(|| address.clone());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(MetricsError::Start)?;
    let registry = Arc::new(registry);
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = listener.accept(registry) => {}
                }
            });
        })
        .map_err(MetricsError::Start)?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread), file })
}

impl Server {
    /// Returns the address that is served, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if the thread has ended already.
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
        if let Some(file) = &self.file {
            // The file may have been removed already.
            let _ = fs::remove_file(file);
        }
    }
}

/// Listens at an address: for `::` at all addresses of both families, or of IPv4 if there is no IPv6.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).or_else(|error| {
        let no_ipv6 = matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
        if address.ip().is_unspecified() && no_ipv6 {
            TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        } else {
            Err(error)
        }
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Listens at a socket in the file system. Replaces a socket without a listener, but no other file.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let (directory, name) = Directory::of(path, Trust::Typed)?;
    let listener = UnixListener::bind(path).or_else(|error| {
        // Connecting to a file that is not a socket is refused too.
        let left_over = error.kind() == io::ErrorKind::AddrInUse
            && fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
            && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if left_over {
            directory.remove(&name)?;
            UnixListener::bind(path)
        } else {
            Err(error)
        }
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A listening socket.
enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListeningSocket {
    /// Returns the address, with the parts that the system chose.
    fn address(&self) -> Option<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(ListenAddress::Tcp),
            Self::Unix(_) => None,
        }
    }

    /// Serves each client that connects.
    async fn accept(self, registry: Arc<Registry>) {
        let mut connections = Connections::default();
        // Neither fails within a runtime with I/O enabled.
        match self {
            Self::Tcp(listener) => {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => connections.add(stream, &registry).await,
                        Err(_) => tokio::time::sleep(ACCEPT_RETRY_PAUSE).await,
                    }
                }
            }
            Self::Unix(listener) => {
                let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => connections.add(stream, &registry).await,
                        Err(_) => tokio::time::sleep(ACCEPT_RETRY_PAUSE).await,
                    }
                }
            }
        }
    }
}

/// The connections being served.
struct Connections {
    tasks: JoinSet<()>,
    /// Handles to abort them, with their start; the oldest first.
    ages: VecDeque<(AbortHandle, Instant)>,
    /// [`CONNECTION_TIMEOUT`] and [`MIN_CONNECTION_TIME`], except in tests.
    connection_timeout: Duration,
    min_connection_time: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Connections {
            tasks: JoinSet::new(),
            ages: VecDeque::new(),
            connection_timeout: CONNECTION_TIMEOUT,
            min_connection_time: MIN_CONNECTION_TIME,
        }
    }
}

impl Connections {
    /// Adds a connection as soon as there is room for one.
    async fn add<S>(&mut self, stream: S, registry: &Arc<Registry>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.make_room().await;
        let (registry, connection_timeout) = (registry.clone(), self.connection_timeout);
        let task = self.tasks.spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&request, &registry);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut connection = http1::Builder::new();
            connection
                .timer(TokioTimer::new())
                .header_read_timeout(connection_timeout)
                .max_buf_size(MAX_REQUEST)
                .keep_alive(false);
            // A failed or slow connection concerns the client only.
            let _ = timeout(connection_timeout, connection.serve_connection(TokioIo::new(stream), service)).await;
        });
        self.ages.push_back((task, Instant::now()));
    }

    /// Waits until there is room for one more connection, for which an idle one is closed.
    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.ages.retain(|(task, _)| !task.is_finished());
            if self.tasks.len() < MAX_CONNECTIONS {
                return;
            }
            let Some((oldest, since)) = self.ages.front() else { return };
            if timeout_at(*since + self.min_connection_time, self.tasks.join_next()).await.is_err() {
                oldest.abort();
                self.tasks.join_next().await;
            }
        }
    }
}

/// Returns the response to a request.
fn answer(request: &Request<Incoming>, registry: &Registry) -> Response<String> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let respond = |status, kind, body: String| {
        let response = Response::builder().status(status).header(CONTENT_TYPE, kind);
        let response =
            if status == StatusCode::METHOD_NOT_ALLOWED { response.header(ALLOW, "GET, HEAD") } else { response };
        // Cannot fail: the headers are constants.
        response.body(body).unwrap_or_default()
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD are known here\n".into());
    }
    match request.uri().path() {
        "/metrics" => respond(StatusCode::OK, export::CONTENT_TYPE, export::encode(registry)),
        "/" => respond(StatusCode::OK, PLAIN, "flowgate: metrics are at /metrics\n".into()),
        _ => respond(StatusCode::NOT_FOUND, PLAIN, "not found; metrics are at /metrics\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read as _, Write as _};

    /// Time limit for what must happen, even on a busy machine.
    const CERTAIN: Duration = Duration::from_secs(60);
    const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    fn run(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap().block_on(work);
    }

    fn registry() -> Arc<Registry> {
        Arc::new(export::registry(Board::default(), Counters::default()))
    }

    /// A client, and its connection; neither waits.
    fn pair() -> (UnixStream, UnixStream) {
        let (client, stream) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, stream)
    }

    impl Connections {
        async fn add_stream(&mut self, stream: UnixStream) {
            let stream = tokio::net::UnixStream::from_std(stream).unwrap();
            timeout(CERTAIN, self.add(stream, &registry())).await.unwrap();
        }

        /// Waits until one ends without being stopped.
        async fn ended(&mut self) {
            timeout(CERTAIN, self.tasks.join_next()).await.unwrap().unwrap().unwrap();
        }
    }

    fn is_closed(mut client: &UnixStream) -> bool {
        match client.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Who asks and does not read the answer has its time and no more.
    #[test]
    fn a_connection_ends_in_time_whatever_the_other_side_does() {
        run(async {
            let mut connections = Connections {
                connection_timeout: Duration::from_millis(50),
                min_connection_time: CERTAIN,
                ..Connections::default()
            };
            let (mut client, mut stream) = pair();
            while stream.write(&[b'.'; 4096]).is_ok() {}
            client.write_all(SCRAPE).unwrap();
            connections.add_stream(stream).await;
            connections.ended().await;
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            assert!(all.iter().all(|&byte| byte == b'.'), "there was no room for an answer");
        });
    }

    /// When there are as many as there can be, the oldest makes room for one more, and no other one does.
    #[test]
    fn the_oldest_connection_makes_room_for_another_one() {
        run(async {
            let mut connections = Connections {
                connection_timeout: CERTAIN * 2,
                min_connection_time: Duration::from_millis(5),
                ..Connections::default()
            };
            let mut clients = Vec::new();
            for number in 1..=MAX_CONNECTIONS + 3 {
                let (client, stream) = pair();
                connections.add_stream(stream).await;
                clients.push(client);
                let closed = number.saturating_sub(MAX_CONNECTIONS);
                for (at, client) in clients.iter().enumerate() {
                    assert_eq!(is_closed(client), at < closed, "{at} of {number}");
                }
            }
            // The last one is served though the others hang.
            let mut last = clients.pop().unwrap();
            last.write_all(SCRAPE).unwrap();
            connections.ended().await;
            let mut answer = String::new();
            last.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        });
    }

    /// One that has ended makes room at once: no other one is closed for it.
    #[test]
    fn a_connection_that_has_ended_makes_room() {
        run(async {
            let mut connections = Connections {
                connection_timeout: CERTAIN * 2,
                min_connection_time: CERTAIN * 2,
                ..Connections::default()
            };
            let mut clients = Vec::new();
            for _ in 0..=MAX_CONNECTIONS {
                if clients.len() == MAX_CONNECTIONS {
                    clients.pop();
                }
                let (client, stream) = pair();
                connections.add_stream(stream).await;
                clients.push(client);
            }
            assert!(clients.len() == MAX_CONNECTIONS && !clients.iter().any(is_closed));
        });
    }
}
