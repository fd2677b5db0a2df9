//! Connections to the API.

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::os::unix::net::UnixStream;

/// Answers one connection until it ends.
pub(crate) async fn connection(router: Router, connection: UnixStream) {
    let connected = connection
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(connection));
    if let Ok(connection) = connected {
        // Who speaks no HTTP is told so, and whoever is gone cannot be.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router))
            .await;
    }
}
