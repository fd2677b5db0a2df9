//! From a listening socket to the end of the composition.

use crate::api;
use crate::engine::{Caller, Core, Engine, Message};
use crate::graph::Graph;
use crate::host::Host;
use crate::rules::Rules;
use std::io::Result;
use std::os::unix::net::UnixListener;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a composition until somebody asks for its end, by the API at `listener` or by a signal to this process (TERM, INT).
///
/// Logs and events are kept in `directory`.
///
/// # Errors
///
/// When the host has no more of something that is needed to begin.
pub fn supervise<H: Host>(
    host: H,
    graph: Graph,
    rules: Rules,
    (listener, directory): (UnixListener, &Path),
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (engine, inbox) = Engine::new(directory);
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let (mut signals, engine) = (signal(kind)?, engine.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    engine.tell(Message::End);
                }
            });
        }
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let router = api::router(engine.door(), Caller::Owner);
        let (over, end) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async {
                    // Dropped when it is over.
                    let _ = end.await;
                })
                .await
        });
        Core::new(std::sync::Arc::new(host), engine, inbox, (graph, rules))
            .run()
            .await;
        drop(over);
        // Who asked for the end is told; who follows logs or events is not waited for.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), served).await;
        Ok(())
    })
}
