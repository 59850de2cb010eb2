//! Connections: how many, how slow, and how they end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_io_timeout::TimeoutStream;

use crate::config::Connections;
use crate::metrics::Metrics;
use crate::{Error, Result};

/// The last share of the grace time: what still runs then is told, and the words must get out.
const FAREWELL: f64 = 0.1;
/// Accepting fails when the process has no file descriptor left: some become free.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until SIGTERM or SIGINT. Then `stopping` turns true and no connection is accepted; near the
/// end of the grace time `stopped` does, at which every answer under way ends.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    metrics: Arc<Metrics>,
    settings: &Connections,
    stopping: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
) -> Result<()> {
    let no_signal = |source| Error::System { what: "cannot wait for signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let max_connections = settings.max_connections;
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let accepted = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let connection = connection(stream, router.clone(), settings, stopping.subscribe());
        let connected = metrics.connection();
        tokio::spawn(async move {
            connection.await;
            drop((connected, place));
        });
    }
    drop(listener);
    let begin = Instant::now();
    let grace = Duration::from_secs_f64(settings.grace_seconds);
    stopping.send_replace(true);
    let all = places.acquire_many(max_connections as u32);
    let mut all = pin!(all);
    tokio::select! {
        _ = &mut all => return Ok(()),
        () = sleep_until(begin + grace.mul_f64(1.0 - FAREWELL)) => {}
    }
    stopped.send_replace(true);
    tokio::select! {
        _ = &mut all => {}
        () = sleep_until(begin + grace) => tracing::warn!("some connections did not end in time"),
    }
    Ok(())
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, Place)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!("cannot accept a connection: {error}");
            None
        }
    }
}

/// Serves one connection until it ends; when the server stops, after the answer under way.
fn connection(
    stream: TcpStream,
    router: Router,
    settings: &Connections,
    mut stopping: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    // Tokens go out one by one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("no TCP_NODELAY: {error}");
    }
    let seconds = Duration::from_secs_f64;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(seconds(settings.write_seconds)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(seconds(settings.header_seconds));
    async move {
        let stream = TokioIo::new(Box::pin(stream));
        let connection = http.serve_connection(stream, TowerToHyperService::new(router));
        let mut connection = pin!(connection);
        let stop = async { stopping.wait_for(|stopping| *stopping).await.is_ok() };
        let end = tokio::select! {
            end = connection.as_mut() => end,
            _ = stop => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = end {
            tracing::debug!("a connection broke: {error}");
        }
    }
}
