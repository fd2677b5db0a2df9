//! What a machine at rest has of the world.

use super::{CaptureError, FrozenEdge, Image};
use crate::config::{Config, Publish, Transport};
use crate::edges::Place;
use crate::files;
use crate::world::{PublishedPort, World, in_order};
use cormus_isolation::Isolation;

impl Image {
    /// What machines that are made from it will have of the world; files are looked for as they will be.
    ///
    /// # Errors
    /// When a root is gone, or the host's own tables cannot be read.
    pub fn world(&self) -> Result<World, CaptureError> {
        let config = &self.state.config;
        Ok(World {
            memory_limit_bytes: config.memory_bytes,
            memory_used_bytes: self.memory.usage().map_err(CaptureError::host("memory"))?,
            published: published_at_rest(config, &self.state.edges.edges),
            connections: Vec::new(),
            outbound: config.outbound.clone(),
            files: in_order(files::at_rest(&config.roots, &self.state.files)),
            roots: config.roots.clone(),
            clones: None,
            isolation: Isolation::default(),
        })
    }
}

fn published_at_rest(config: &Config, edges: &[Option<FrozenEdge>]) -> Vec<PublishedPort> {
    let listens = |publish: &Publish| {
        edges.iter().flatten().any(|edge| match edge {
            FrozenEdge::Listener { place, .. } => {
                publish.transport == Transport::Tcp && *place == Place::Port(publish.guest_port)
            }
            FrozenEdge::Datagrams { guest_port, .. } => {
                (*guest_port, Transport::Udp) == (publish.guest_port, publish.transport)
            }
            FrozenEdge::Connection { .. } => false,
        })
    };
    let published = config.published.iter().map(|publish| PublishedPort {
        publish: *publish,
        listening: listens(publish),
    });
    published.collect()
}
